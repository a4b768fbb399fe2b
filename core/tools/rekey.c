/* SPDX-License-Identifier: MIT */
/* tenonctl cluster rekey: a new key for a cluster that runs.  Each step is one write to the store; the next is made when
 * every member whose record is fresh goes by the one before.  A member that can't be reached reads the keys by itself
 * within 15 s; one that says nothing for so long that its record is stale is not waited for: it reads them when it wakes. */
#include <stdio.h>
#include <unistd.h>

#include "client/wire.h"
#include "proto/proto.h"
#include "store/store.h"
#include "tenon/store.pb-c.h"
#include "tools/operate.h"

#define ROUND_NS (200 * TN_MS)
#define MEMBERS_MAX 10000u

static const char *const steps[] = {
    [TN_KEYS_SETTLED] = "the old key is dropped",
    [TN_KEYS_BELIEVED] = "the new key is believed",
    [TN_KEYS_SIGNING] = "the new key signs, the old one is believed",
};

/* ---- the store ---- */

/* One step, unless another was faster; with the first the cluster is marked for older releases. */
static tn_status write_step(tn_site *s, tn_error *err)
{
    uint8_t fresh[16];
    tn_row cluster_row, row = {.version = 0};
    Tenon__ClusterRecord *cluster = NULL;
    tn_keys keys = s->keys;
    tn_key cluster_at = tn_site_meta(s, "cluster"), at = tn_keys_row(s->arena);
    tn_store_batch batch;
    tn_commit commit = {.struct_size = sizeof(commit)};
    tn_blob packed;
    tn_status status = tn_tool_get(&s->db, s->arena, &cluster_at, &cluster_row, err);
    if (status == TN_OK)
        status = tn_proto_unpack(&tenon__cluster_record__descriptor, cluster_row.value, s->arena,
                                 (ProtobufCMessage **)(void *)&cluster, err);
    if (status == TN_OK && (status = tn_tool_get(&s->db, s->arena, &at, &row, err)) == TN_ENOTFOUND)
        status = TN_OK;
    if (status != TN_OK)
        return status;
    tn_random_bytes(fresh, sizeof(fresh));
    tn_keys_step(&keys, fresh);
    explicit_bzero(fresh, sizeof(fresh));
    tn_store_batch_init(&batch, s->arena);
    tn_store_batch_cond(&batch, TN_COND_VERSION, cluster_at, cluster_row.version);
    tn_store_batch_cond(&batch, row.version ? TN_COND_VERSION : TN_COND_ABSENT, at, row.version);
    if (cluster->schema < TN_KEYS_SCHEMA) {
        cluster->schema = TN_KEYS_SCHEMA;
        status = tn_proto_pack(&cluster->base, s->arena, &packed);
        TN_ASSERT(status == TN_OK);
        tn_store_batch_put(&batch, cluster_at, packed);
    }
    tn_store_batch_put(&batch, at, tn_keys_pack(s->arena, &keys));
    tn_batch finished = tn_store_batch_finish(&batch);
    status = tn_tool_commit(&s->db, s->arena, &finished, &commit, err);
    if (status == TN_ECONFLICT)
        return tn_error_set(
            err, status,
            "somebody else changes the cluster's keys, or its shards, too; fix: run it again");
    if (status == TN_OK)
        s->keys = keys;
    explicit_bzero(&keys, sizeof(keys));
    return status;
}

/* ---- the members ---- */

typedef struct laggards {
    uint32_t members, n;
    char first[80];
    const char *old_release; /* of one that knows no keys but the first */
} laggards;

/* Whether this one goes by the keys now; it is told of them. */
static bool follows(tn_site *s, const tn_member *m)
{
    Tenon__Done done = TENON__DONE__INIT;
    Tenon__KeysAnswer *answer = NULL;
    const tn_fault *fault =
        tn_site_ask(s, m, TN_INTERNAL_KEYS, &done.base, &tenon__keys_answer__descriptor,
                    (ProtobufCMessage **)(void *)&answer);
    return !fault && answer->version >= s->keys.version;
}

static void look_at(tn_site *s, const tn_row *row, bool tell, laggards *out)
{
    tn_member m;
    Tenon__MemberRecord *record = NULL;
    if (!tn_site_member(s, row, &m, &record))
        return;
    out->members++;
    if (!record->follows_keys)
        out->old_release = record->version;
    else if (record->keys_version >= s->keys.version || (tell && follows(s, &m)))
        return;
    if (!out->n++)
        snprintf(out->first, sizeof(out->first), "%s:%u", m.ip, m.port);
}

static tn_status look(tn_site *s, bool tell, laggards *out, tn_error *err)
{
    tn_page page = {.struct_size = sizeof(page)};
    tn_range range = {.struct_size = sizeof(range), .limit = MEMBERS_MAX};
    range.from = tn_store_key(s->arena, TN_TABLE_MEMBER, TN_PARTITION_CLUSTER, (tn_blob){NULL, 0});
    *out = (laggards){.n = 0};
    tn_status status = tn_tool_scan(&s->db, s->arena, &range, &page, err);
    for (size_t i = 0; status == TN_OK && i < page.n_rows; i++)
        look_at(s, &page.rows[i], tell, out);
    return status;
}

/* A server without a cluster has no record: it is asked, if it is there. */
static bool lone_follows(tn_site *s)
{
    Tenon__Done done = TENON__DONE__INIT;
    Tenon__KeysAnswer *answer = NULL;
    const tn_fault *fault =
        tn_site_ask(s, NULL, TN_INTERNAL_KEYS, &done.base, &tenon__keys_answer__descriptor,
                    (ProtobufCMessage **)(void *)&answer);
    return fault || answer->version >= s->keys.version;
}

static tn_status wait_for_all(tn_site *s, laggards *out, tn_error *err)
{
    uint64_t until = tn_now_mono_ns() + s->wait_ns;
    for (;;) {
        tn_status status = look(s, true, out, err);
        if (status != TN_OK)
            return status;
        if (!out->n && (out->members || lone_follows(s)))
            return TN_OK;
        if (tn_now_mono_ns() >= until)
            return tn_error_set(
                err, TN_EUNAVAILABLE,
                "%u of %u members, that at %s one of them, do not go by it yet; nothing is lost: "
                "both keys "
                "are believed.  fix: end or start what hangs there, and run this again",
                out->n, out->members, *out->first ? out->first : "the frontend's address");
        usleep(ROUND_NS / TN_US);
    }
}

/* ---- all of it ---- */

static int tell(const tn_site *s, const tn_error *err)
{
    fprintf(stderr, "tenonctl: %s: %s\n", s->tool->name, err->text);
    return TN_TOOL_FAILED;
}

int tn_site_rekey(tn_site *s)
{
    laggards l;
    tn_error err = {0};
    if (look(s, false, &l, &err) != TN_OK)
        return tell(s, &err);
    if (l.old_release) {
        tn_error_set(&err, TN_EINVALID,
                     "a member runs release %s, which has one key for ever; fix: upgrade it",
                     l.old_release);
        return tell(s, &err);
    }
    if (s->keys.phase != TN_KEYS_SETTLED)
        printf("a change that was begun goes on: %s\n", steps[s->keys.phase]);
    do {
        uint64_t began = tn_now_mono_ns();
        /* Each goes by the step before, one that another run of this has made, too. */
        if (wait_for_all(s, &l, &err) != TN_OK || write_step(s, &err) != TN_OK ||
            wait_for_all(s, &l, &err) != TN_OK)
            return tell(s, &err);
        tn_remote_secret_of(s->keys.key[0], s->secret); /* all believe it now */
        printf("%s: %u members after %.1f s\n", steps[s->keys.phase], l.members,
               (double)(tn_now_mono_ns() - began) / 1e9);
        fflush(stdout);
    } while (s->keys.phase != TN_KEYS_SETTLED);
    return TN_TOOL_OK;
}
