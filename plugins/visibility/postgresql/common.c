/* SPDX-License-Identifier: MIT */
/* Values that very many runs have: what a count over one would have to visit is nearly every page of the table, so they
 * are counted as they are written (schema/2.sql).  Which they are says the sample that PostgreSQL's ANALYZE takes;
 * it is looked at after each few thousand documents, and when a count has visited very many rows: never
 * while nothing happens.
 *
 * Two transactions: the first adds keys, from when on every writer counts them; the second counts what was there
 * before.  Whichever fails is done again with the next look. */
#include "private.h"

#define WRITTEN_MIN 8192u
#define PAUSE_NS (30 * TN_PG_SEC)
#define FIND_NS (30 * TN_PG_SEC)
#define COUNT_NS (600 * TN_PG_SEC) /* a hundred million rows that an older version has left */

static void count(vp_common *c, vp_side *side);

static vp_side *side_of(tn_pg_req *req)
{
    return (vp_side *)((char *)req - offsetof(vp_side, common.req));
}

static bool send(tn_pg_req *req, PGconn *db)
{
    vp_side *side = side_of(req);
    tn_pg_params_clear(&side->params);
    if (side->common.counting)
        return tn_pg_params_send(&side->params, db, "vis_common_count");
    tn_pg_put_i64(&side->params, side->inst->common_rows);
    return tn_pg_params_send(&side->params, db, "vis_common_find");
}

static void take(tn_pg_req *req, uint32_t index, PGresult *result)
{
    (void)index;
    side_of(req)->common.found =
        PQntuples(result) == 1 && !PQgetisnull(result, 0, 0) ? tn_pg_result_int(result, 0, 0) : 0;
}

static void over(tn_pg_req *req, tn_pg_end end, const tn_error *err, const char *sqlstate)
{
    (void)err, (void)sqlstate;
    vp_side *side = side_of(req);
    vp_common *c = &side->common;
    if (end == TN_PG_DONE && (!c->counting || c->found))
        count(c, side);
    else
        c->busy = false;
}

static void submit(vp_common *c, vp_side *side, uint64_t timeout_ns)
{
    c->req = (tn_pg_req){.deadline_ns = side->inst->host->mono_ns() + timeout_ns,
                         .send = send,
                         .result = take,
                         .done = over};
    tn_pg_submit(side->conn, &c->req);
}

static void count(vp_common *c, vp_side *side)
{
    c->counting = true;
    submit(c, side, COUNT_NS);
}

static void look(vp_side *side)
{
    vp_common *c = &side->common;
    if (c->busy || !side->inst->common_rows)
        return;
    c->busy = true;
    c->counting = false;
    c->written = 0;
    c->begun_ns = side->inst->host->mono_ns();
    submit(c, side, FIND_NS);
}

void vp_common_written(vp_side *side, size_t n)
{
    side->common.written += n;
    if (side->common.written >= WRITTEN_MIN)
        look(side);
}

void vp_common_look(vp_side *side)
{
    uint64_t begun = side->common.begun_ns;
    if (!begun || side->inst->host->mono_ns() - begun >= PAUSE_NS)
        look(side);
}
