/* SPDX-License-Identifier: MIT */
/* Versions of worker deployments that drain: visibility is asked now and then whether runs are still pinned to them, until
 * there are none.  What is to be asked stands in the deployments' records, so that any worker can go on after a crash;
 * among several workers the ring says who. */
#include "config/dynconfig.h"
#include "deployment/deployment.h"
#include "visibility/visibility.h"
#include "worker/worker.h"

#define LOOK_AGAIN_NS \
    (10 * \
     TN_SEC) /* another worker's, which may die; another grace; or what could not be done now */

#define DRAINS TEMPORAL__API__ENUMS__V1__VERSION_DRAINAGE_STATUS__VERSION_DRAINAGE_STATUS_DRAINING

static struct { /* loop 0 */
    tn_loop_timer timer;
    bool in_flight, stopping;
    tn_arena *arena; /* of the question or change in flight */
    const tn_namespace *ns;
    tn_vis_op op;
    tn_deployment_change change;
} job = {.stopping = true};

typedef struct choice {
    const tn_deployment *d;
    const tn_deployment_version *v; /* NULL: none drains */
    uint64_t due_ns;                /* wall clock */
} choice;

static void set_alarm(uint64_t delay_ns)
{
    if (!job.stopping)
        tn_loop_timer_start(&job.timer, tn_now_mono_ns() + delay_ns);
}

/* ---- one version ---- */

static void over(bool failed)
{
    job.in_flight = false;
    tn_namespace_unref(job.ns);
    tn_arena_destroy(job.arena);
    set_alarm(failed ? LOOK_AGAIN_NS : 0);
}

static void noted(tn_deployment_change *change)
{
    if (change->fault)
        TN_LOG(TN_LOG_WARN, "worker", "a version's drainage could not be noted, trying again",
               TN_LOG_S("deployment", change->name), TN_LOG_S("build_id", change->build_id),
               TN_LOG_S("why", change->fault->message));
    over(change->fault != NULL);
}

static void counted(tn_vis_op *op)
{
    if (op->status != TN_OK) {
        TN_LOG(TN_LOG_WARN, "worker",
               "visibility could not tell whether a version has drained, trying again",
               TN_LOG_S("deployment", job.change.name), TN_LOG_S("build_id", job.change.build_id));
        over(true);
        return;
    }
    job.change.drained = op->u.list.page.count == 0;
    tn_deployment_submit(&job.change);
}

/* A literal of the list filter; build ids and names may have anything in them. */
static const char *quoted(tn_arena *arena, const char *text)
{
    size_t n = strlen(text);
    char *out = tn_arena_alloc(arena, 2 * n + 3), *at = out;
    *at++ = '\'';
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\'' || text[i] == '\\')
            *at++ = '\\';
        *at++ = text[i];
    }
    *at++ = '\'';
    *at = '\0';
    return out;
}

static void ask(const choice *c)
{
    job.arena = tn_arena_create(0);
    job.in_flight = true;
    tn_dver version = {tn_str_from(c->d->name), tn_str_from(c->v->build_id)};
    const char *text = tn_arena_printf(
        job.arena,
        "TemporalWorkerDeploymentVersion = %s AND "
        "TemporalWorkflowVersioningBehavior = 'Pinned' AND ExecutionStatus = 'Running'",
        quoted(job.arena, tn_dver_text(job.arena, version)));
    job.change = (tn_deployment_change){.arena = job.arena,
                                        .home = tn_loop_current(),
                                        .verb = TN_DEPLOYMENT_DRAINAGE,
                                        .ns_id = tn_arena_str(job.arena, tn_str_from(c->d->ns_id)),
                                        .name = tn_arena_str(job.arena, version.deployment),
                                        .build_id = tn_arena_str(job.arena, version.build_id),
                                        .done = noted};
    job.op = (tn_vis_op){.arena = job.arena, .done = counted};
    const tn_fault *fault = tn_vis_query_parse(job.arena, job.ns, tn_str_from(text),
                                               TN_VIS_FOR_COUNT, &job.op.u.list.query);
    if (fault) {
        TN_LOG(TN_LOG_ERROR, "worker", "the query for a version's drainage is refused",
               TN_LOG_S("query", tn_str_from(text)), TN_LOG_S("why", fault->message));
        over(true);
        return;
    }
    tn_vis_count(&job.op);
}

/* ---- which one ---- */

/* The first question waits for visibility to know the runs that came last. */
static uint64_t due_ns(const tn_deployment_version *v, tn_str ns_name)
{
    bool first = v->drainage_checked_ns == v->drainage_changed_ns;
    int64_t wait =
        tn_dyn_i64(first ? TN_DYN_MATCHING_DRAINAGE_GRACE : TN_DYN_MATCHING_DRAINAGE_REFRESH,
                   ns_name, TN_STR(""));
    return v->drainage_checked_ns + (wait > 0 ? (uint64_t)wait : 0);
}

static void consider(void *user, const tn_deployment *d)
{
    choice *best = user;
    const tn_namespace *ns = NULL;
    for (size_t i = 0; i < d->n_versions; i++) {
        const tn_deployment_version *v = d->versions[i];
        if ((int)v->drainage != (int)DRAINS)
            continue;
        if (!ns && !(ns = tn_namespace_by_id(tn_str_from(d->ns_id))))
            return; /* deleted */
        uint64_t due = due_ns(v, ns->name);
        if (!best->v || due < best->due_ns)
            *best = (choice){d, v, due};
    }
    tn_namespace_unref(ns);
}

static void consider_ours(void *user, const tn_deployment *d)
{
    if (tn_client_worker_is_here(tn_blob_of_str(tn_str_from(d->name))))
        consider(user, d);
    else
        consider((choice *)user + 1, d);
}

static void go_on(tn_loop_timer *timer)
{
    (void)timer;
    if (job.in_flight || job.stopping)
        return;
    choice found[2] = {{0}}; /* ours, others' */
    tn_deployments_each(consider_ours, found);
    uint64_t now_ns = tn_now_wall_ns();
    if (found[0].v && found[0].due_ns <= now_ns) {
        job.ns = tn_namespace_by_id(tn_str_from(found[0].d->ns_id));
        if (job.ns) {
            ask(&found[0]);
            return;
        }
    }
    uint64_t wait_ns = LOOK_AGAIN_NS;
    if (found[0].v && found[0].due_ns > now_ns && found[0].due_ns - now_ns < wait_ns)
        wait_ns = found[0].due_ns - now_ns;
    if (found[0].v || found[1].v)
        set_alarm(wait_ns);
}

static void deployments_changed(void)
{
    if (tn_loop_current() == tn_loops_get(0) && !job.in_flight)
        set_alarm(0);
}

/* ---- start and stop ---- */

static void start_on_loop(void *arg)
{
    (void)arg;
    tn_loop_timer_init(&job.timer, go_on);
    job.stopping = false;
    set_alarm(0);
}

void tn_drainage_watch(void) { tn_deployments_watch(deployments_changed); }

void tn_drainage_start(void) { tn_loop_call(tn_loops_get(0), start_on_loop, NULL); }

static void stop_on_loop(void *arg)
{
    (void)arg;
    job.stopping = true;
    tn_loop_timer_stop(&job.timer);
}

void tn_drainage_stop(void) { tn_loop_call(tn_loops_get(0), stop_on_loop, NULL); }
