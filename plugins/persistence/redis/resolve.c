/* SPDX-License-Identifier: MIT */
/* Names to addresses on the host's worker threads: a resolver may take seconds, and a loop must not wait. */
#include "private.h"

#include <stdlib.h>

struct rd_resolving {
    rd_endpoint endpoint;
    rd_addresses found;
    tn_status status;
    tn_error err;
    bool cancelled;
    void (*done)(void *user, const rd_addresses *found, const tn_error *err);
    void *user;
};

static void look_up(void *arg)
{
    rd_resolving *job = arg;
    job->status = rd_resolve(&job->endpoint, &job->found, &job->err);
}

static void looked_up(void *arg)
{
    rd_resolving *job = arg;
    if (!job->cancelled)
        job->done(job->user, job->status == TN_OK ? &job->found : NULL, &job->err);
    free(job);
}

rd_resolving *rd_resolve_start(rd_ctx *ctx, const rd_endpoint *endpoint,
                               void (*done)(void *user, const rd_addresses *found,
                                            const tn_error *err),
                               void *user)
{
    rd_resolving *job = calloc(1, sizeof *job);
    if (!job)
        return NULL;
    job->endpoint = *endpoint;
    job->done = done;
    job->user = user;
    if (ctx->inst->host->offload(ctx->loop, look_up, looked_up, job) == TN_OK)
        return job;
    free(job);
    return NULL;
}

void rd_resolve_cancel(rd_resolving *job)
{
    if (job)
        job->cancelled = true;
}
