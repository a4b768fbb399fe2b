/* SPDX-License-Identifier: MIT */
/* Task queues: finding them, what is known of their pollers, rates, credit, and forgetting idle ones. */
#include "matching/priv.h"

#include <stdlib.h>

#include "client/partition.h"

#define SWEEP_NS (60 * TN_SEC)

static tn_blob key_of(tn_buf *buf, tn_str ns_id, tn_str name, uint32_t type)
{
    tn_buf_put(buf, ns_id.p, ns_id.n);
    tn_buf_put_u8(buf, (uint8_t)type);
    tn_buf_put(buf, name.p, name.n);
    return tn_buf_blob(buf);
}

tn_tq *tn_tq_find(tn_mloop *ml, const tn_namespace *ns, tn_str name, uint32_t type)
{
    tn_buf buf = {0};
    tn_map_link *found = tn_map_find(&ml->queues, key_of(&buf, ns->id, name, type));
    tn_buf_done(&buf);
    return found ? TN_CONTAINER_OF(found, tn_tq, link) : NULL;
}

static tn_tq *used(tn_tq *tq)
{
    tq->used_mono_ns = tn_now_mono_ns();
    if (tq->lost) { /* it was another host's meanwhile, who may have been told of other settings */
        tn_tq_config_load(tq);
        tq->ours_mono_ns = tq->used_mono_ns;
    }
    tq->lost = false;
    return tq;
}

static tn_tq *create(tn_mloop *ml, const tn_namespace *ns, tn_blob key, uint32_t type, bool sticky)
{
    tn_tq *tq = tn_xcalloc(1, sizeof(*tq) + key.n + 1);
    memcpy(tq->key, key.p, key.n);
    tq->ml = ml;
    tq->ns = tn_namespace_ref(ns);
    tq->name = tq->key + ns->id.n + 1;
    tn_list_init(&tq->versions);
    tn_list_init(&tq->in_versions);
    tq->type = type;
    tq->sticky = sticky;
    tq->used_mono_ns = tq->ours_mono_ns = tn_now_mono_ns();
    tn_backlog_init(&tq->backlog);
    tn_list_init(&tq->polls);
    tn_list_init(&tq->queries);
    tn_list_init(&tq->pollers);
    uint32_t index;
    tq->base = tn_partition_base(tn_str_from(tq->name), &index);
    tn_tq_hold_series(tq);
    tn_forward_create(tq);
    tn_map_insert(&ml->queues, &tq->link, tn_blob_from(tq->key, key.n));
    if (!sticky)
        tn_tq_config_load(tq);
    if (!tn_loop_timer_active(&ml->sweep))
        tn_loop_timer_start(&ml->sweep, tn_now_mono_ns() + SWEEP_NS);
    return tq;
}

tn_tq *tn_tq_get(tn_mloop *ml, const tn_namespace *ns, tn_str name, uint32_t type, bool sticky)
{
    tn_tq *tq = tn_tq_find(ml, ns, name, type);
    if (tq)
        return used(tq);
    tn_buf buf = {0};
    tq = create(ml, ns, key_of(&buf, ns->id, name, type), type, sticky);
    tn_buf_done(&buf);
    return tq;
}

tn_tq *tn_tq_get_version(tn_mloop *ml, const tn_namespace *ns, tn_str name, uint32_t type,
                         tn_dver version)
{
    tn_tq *plain = tn_tq_get(ml, ns, name, type, false);
    if (!tn_dver_is(version))
        return plain;
    TN_LIST_FOREACH (link, &plain->versions) {
        tn_tq *tq = TN_CONTAINER_OF(link, tn_tq, in_versions);
        if (tn_dver_eq(tq->version, version))
            return used(tq);
    }
    tn_buf buf = {0};
    (void)key_of(&buf, ns->id, name, type);
    tn_buf_put_u8(&buf, 0);
    size_t deployment = buf.n;
    tn_buf_put(&buf, version.deployment.p, version.deployment.n);
    tn_buf_put_u8(&buf, 0);
    size_t build_id = buf.n;
    tn_buf_put(&buf, version.build_id.p, version.build_id.n);
    tn_tq *tq = create(ml, ns, tn_buf_blob(&buf), type, false);
    tn_buf_done(&buf);
    tq->version = (tn_dver){{tq->key + deployment, version.deployment.n},
                            {tq->key + build_id, version.build_id.n}};
    tn_list_push_back(&plain->versions, &tq->in_versions);
    return tq;
}

static void forget_pollers(tn_tq *tq, uint64_t before_wall_ns)
{
    TN_LIST_FOREACH_SAFE (link, &tq->pollers) {
        tn_poller_seen *seen = TN_CONTAINER_OF(link, tn_poller_seen, link);
        if (seen->last_wall_ns >= before_wall_ns)
            break;
        tn_list_remove(link);
        tq->n_pollers--;
        free(seen);
    }
}

static void tq_destroy(tn_tq *tq)
{
    forget_pollers(tq, UINT64_MAX);
    tn_forward_destroy(tq);
    tn_backlog_done(&tq->backlog);
    tn_rates_done(tq);
    tn_tq_config_done(tq);
    tn_list_remove(&tq->in_versions);
    tn_map_remove(&tq->ml->queues, &tq->link);
    tn_namespace_unref(tq->ns);
    free(tq->starved);
    free(tq);
}

static bool is_empty(const tn_tq *tq)
{
    return !tq->n_out && !tq->backlog.count && tn_list_empty(&tq->polls) &&
           tn_list_empty(&tq->queries) && tn_list_empty(&tq->pollers) && !tq->any_starved &&
           tn_list_empty(&tq->versions);
}

void tn_tq_unload(tn_tq *tq)
{
    tn_match_end_polls(tq);
    forget_pollers(tq, UINT64_MAX);
    tq->last_poll_mono_ns = 0;
    if (is_empty(tq))
        tq_destroy(tq);
    else if (!tq->sticky)
        tn_tq_config_load(tq);
}

static void sweep_one(void *user, tn_map_link *link)
{
    tn_tq *tq = TN_CONTAINER_OF(link, tn_tq, link);
    uint64_t now = *(uint64_t *)user;
    uint64_t wall = tn_now_wall_ns();
    uint64_t shown = tn_tq_number(tq, TN_DYN_MATCHING_POLLER_TTL);
    forget_pollers(tq, wall > shown ? wall - shown : 0);
    tn_backlog_rest(&tq->backlog, now);
    if (is_empty(tq) && now - tq->used_mono_ns > tn_tq_number(tq, TN_DYN_MATCHING_IDLE))
        tq_destroy(tq);
}

void tn_tq_sweep(tn_mloop *ml)
{
    uint64_t now = tn_now_mono_ns();
    tn_map_each(&ml->queues, sweep_one, &now);
    if (ml->queues.count)
        tn_loop_timer_start(&ml->sweep, now + SWEEP_NS);
}

/* ---- pollers ---- */

static tn_poller_seen *remember(
    tn_str identity, const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options)
{
    tn_str name = tn_str_from(options ? options->deployment_name : NULL);
    tn_str build_id = tn_str_from(options ? options->build_id : NULL);
    tn_poller_seen *seen = tn_xcalloc(1, sizeof(*seen) + identity.n + name.n + build_id.n + 3);
    seen->identity = (char *)(seen + 1);
    seen->deployment = seen->identity + identity.n + 1;
    seen->build_id = seen->deployment + name.n + 1;
    memcpy(seen->identity, identity.p, identity.n);
    if (name.n)
        memcpy(seen->deployment, name.p, name.n);
    if (build_id.n)
        memcpy(seen->build_id, build_id.p, build_id.n);
    seen->mode = options ? (int32_t)options->worker_versioning_mode : 0;
    return seen;
}

void tn_tq_saw_poller(tn_tq *tq, tn_str identity, double rate,
                      const Temporal__Api__Deployment__V1__WorkerDeploymentOptions *options)
{
    tq->last_poll_mono_ns = tq->used_mono_ns = tn_now_mono_ns();
    if (!identity.p) /* another partition's: that one shows it */
        return;
    tn_poller_seen *seen = NULL;
    TN_LIST_FOREACH (link, &tq->pollers) {
        tn_poller_seen *one = TN_CONTAINER_OF(link, tn_poller_seen, link);
        if (tn_str_is(identity, one->identity)) {
            seen = one;
            break;
        }
    }
    if (!seen) {
        if (tq->n_pollers >= TN_POLLERS_SHOWN_MAX)
            return;
        seen = remember(identity, options);
        tq->n_pollers++;
    } else {
        tn_list_remove(&seen->link);
    }
    seen->last_wall_ns = tn_now_wall_ns();
    seen->rate = rate;
    tn_list_push_back(&tq->pollers, &seen->link);
}

void tn_tq_forget_poller(tn_tq *tq, tn_str identity)
{
    TN_LIST_FOREACH_SAFE (link, &tq->pollers) {
        tn_poller_seen *seen = TN_CONTAINER_OF(link, tn_poller_seen, link);
        if (!tn_str_is(identity, seen->identity))
            continue;
        tn_list_remove(link);
        tq->n_pollers--;
        free(seen);
    }
}

/* ---- credit ---- */

void tn_tq_starve(tn_tq *tq, uint32_t shard)
{
    uint32_t bytes = shard / 8 + 1;
    if (shard > TN_SHARDS_MAX)
        return;
    if (bytes >
        tq->starved_bytes) { /* there may be more shards than when the queue began to starve */
        tq->starved = tn_xreallocarray(tq->starved, bytes, 1);
        memset(tq->starved + tq->starved_bytes, 0, bytes - tq->starved_bytes);
        tq->starved_bytes = bytes;
    }
    tq->starved[shard / 8] |= (uint8_t)(1u << (shard % 8));
    tq->any_starved = true;
}

void tn_tq_give_credit(tn_tq *tq)
{
    if (!tq->any_starved || tq->backlog.count > TN_TASKS_WINDOW_MAX / 2)
        return;
    tq->any_starved = false;
    for (uint32_t shard = 1; shard < 8 * tq->starved_bytes; shard++) {
        if (!(tq->starved[shard / 8] & (1u << (shard % 8))))
            continue;
        tq->starved[shard / 8] &= (uint8_t) ~(1u << (shard % 8));
        tn_client_credit(shard, tq->ns->id, tq->base, tq->type);
    }
}
