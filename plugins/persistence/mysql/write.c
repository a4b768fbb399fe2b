/* SPDX-License-Identifier: MIT */
/* A group as statements.
 *
 * The short way is one round trip: lock the partitions' rows and count those that are ours, count the rows
 * that conditions ask for, note the transaction in tenon_lane - with a division by zero, which ends it,
 * when a count is wrong -, write, COMMIT.
 * The long way looks first and decides here; it takes partitions over and tells who failed.
 * Every transaction locks partitions before it reads a row of theirs, and with READ COMMITTED each
 * statement sees what was committed before it began: rows don't move under a decision. */
#include "private.h"

#include <mysqld_error.h>
#include <string.h>

#define PAIRS_AT_ONCE 50u
#define KEYS_AT_ONCE 500u /* of an IN list: the servers' range optimizers give up at some length */

static void begin_text(my_lane *lane)
{
    lane->sql.n = 0;
    lane->sql.failed = false;
    lane->statements = 0;
}

static void end_statement(my_lane *lane)
{
    ms_put(&lane->sql, ";", 1);
    lane->statements++;
}

static void add(my_lane *lane, const char *statement)
{
    ms_puts(&lane->sql, statement);
    end_statement(lane);
}

static ms_fault send(my_lane *lane, ms_reply *reply, tn_error *err)
{
    if (lane->sql.n)
        lane->sql.n--; /* the last semicolon would be an empty statement */
    my_metric(lane->inst, lane->inst->m_sql_bytes, (double)lane->sql.n);
    ms_fault f = ms_run(&lane->conn, &lane->sql, lane->until_ns, reply, err);
    begin_text(lane);
    return f;
}

/* The transaction is to leave nothing. */
static my_outcome take_back(my_lane *lane, my_outcome outcome)
{
    ms_reply reply;
    tn_error ignored = {0};
    if (lane->conn.my && ms_run_z(&lane->conn, "ROLLBACK;SET SESSION wait_timeout=DEFAULT",
                                  lane->until_ns, &reply, &ignored) == MS_SQL)
        ms_disconnect(&lane->conn);
    ms_reply_done(&reply);
    if (!lane->conn.my)
        lane->registered = false;
    return outcome;
}

/* commit_at: which statement of the text ends the transaction. */
static my_outcome refused(my_lane *lane, size_t at, size_t commit_at, const tn_error *err)
{
    if (at >= commit_at) { /* COMMIT itself: only the lane's row can tell */
        ms_disconnect(&lane->conn);
        return MY_LOST;
    }
    if (err->vendor_code == ER_DIVISION_BY_ZERO)
        return take_back(lane, MY_LOOK);
    bool again = ms_is_retry(err) || err->vendor_code == ER_DUP_ENTRY;
    return take_back(lane, again ? MY_AGAIN : MY_REFUSED);
}

/* ---- what the group leaves ---------------------------------------------------------------------- */

static bool swept(const my_group *g, const my_row *row)
{
    for (size_t i = 0; i < g->n_spans; i++)
        if (g->spans[i].order > row->order && my_key_cmp(g->spans[i].from, row->key) <= 0 &&
            my_key_cmp(row->key, g->spans[i].to) < 0)
            return true;
    return false;
}

/* The long way may need several texts: makes room for so many bytes. */
static ms_fault make_room(my_lane *lane, size_t bytes, tn_error *err)
{
    ms_reply reply;
    if (!lane->group.looked || !lane->statements || lane->sql.n + bytes <= lane->conn.packet_max)
        return MS_FINE;
    ms_fault f = send(lane, &reply, err);
    ms_reply_done(&reply);
    return f;
}

static ms_fault put_spans(my_lane *lane, tn_error *err)
{
    const my_group *g = &lane->group;
    for (size_t i = 0; i < g->n_spans; i++) {
        ms_fault f = make_room(lane, 4 * MY_KEY_MAX + 100, err);
        if (f != MS_FINE)
            return f;
        ms_puts(&lane->sql, "DELETE FROM tenon_kv WHERE k>=");
        ms_put_bytes(&lane->sql, g->spans[i].from.p, g->spans[i].from.n);
        ms_puts(&lane->sql, " AND k<");
        ms_put_bytes(&lane->sql, g->spans[i].to.p, g->spans[i].to.n);
        end_statement(lane);
    }
    return MS_FINE;
}

static ms_fault put_deletes(my_lane *lane, tn_error *err)
{
    const my_group *g = &lane->group;
    size_t n = 0;
    for (size_t i = 0; i < g->n_rows; i++) {
        const my_row *row = g->rows[i];
        if (!row->touched || !row->removed || (g->n_spans && swept(g, row)))
            continue;
        if (n == 0) {
            ms_fault f = make_room(lane, KEYS_AT_ONCE * 2 * MY_KEY_MAX, err);
            if (f != MS_FINE)
                return f;
        }
        ms_puts(&lane->sql, n == 0 ? "DELETE FROM tenon_kv WHERE k IN (" : ",");
        ms_put_bytes(&lane->sql, row->key.p, row->key.n);
        if (++n == KEYS_AT_ONCE) {
            ms_put(&lane->sql, ")", 1);
            end_statement(lane);
            n = 0;
        }
    }
    if (n) {
        ms_put(&lane->sql, ")", 1);
        end_statement(lane);
    }
    return MS_FINE;
}

static const char UPSERT[] = "INSERT INTO tenon_kv (k,ver,val) VALUES ";
static const char UPSERT_END[] = " ON DUPLICATE KEY UPDATE ver=VALUES(ver),val=VALUES(val)";

static ms_fault put_rows(my_lane *lane, tn_error *err)
{
    const my_group *g = &lane->group;
    ms_text *sql = &lane->sql;
    size_t n = 0;
    for (size_t i = 0; i < g->n_rows; i++) {
        const my_row *row = g->rows[i];
        if (!row->touched || row->removed || (g->n_spans && swept(g, row)))
            continue;
        size_t most = sizeof UPSERT + sizeof UPSERT_END + 2 * row->key.n + 2 * row->value.n + 40;
        if (g->looked && sql->n + most > lane->conn.packet_max) {
            most = most - 2 * row->value.n + ms_bytes_size(row->value.p, row->value.n);
            if (n && sql->n + most > lane->conn.packet_max) {
                ms_puts(sql, UPSERT_END);
                end_statement(lane);
                n = 0;
            }
            ms_fault f = n ? MS_FINE : make_room(lane, most, err);
            if (f != MS_FINE)
                return f;
        }
        ms_puts(sql, n++ ? ",(" : UPSERT);
        if (n == 1)
            ms_put(sql, "(", 1);
        ms_put_bytes(sql, row->key.p, row->key.n);
        ms_put(sql, ",", 1);
        ms_put_u64(sql, row->version);
        ms_put(sql, ",", 1);
        ms_put_bytes(sql, row->value.p, row->value.n);
        ms_put(sql, ")", 1);
    }
    if (n) {
        ms_puts(sql, UPSERT_END);
        end_statement(lane);
    }
    return MS_FINE;
}

static ms_fault put_changes(my_lane *lane, tn_error *err)
{
    /* Ranges first: what was put before one and taken by it is not written at all. */
    ms_fault f = put_spans(lane, err);
    if (f == MS_FINE)
        f = put_deletes(lane, err);
    return f == MS_FINE ? put_rows(lane, err) : f;
}

/* ---- the short way ------------------------------------------------------------------------------ */

static void put_parts(my_lane *lane)
{
    const my_group *g = &lane->group;
    for (size_t i = 0; i < g->n_parts; i++) {
        ms_put(&lane->sql, i ? "," : "(", 1);
        ms_put_bytes(&lane->sql, g->parts[i]->p, g->parts[i]->n);
    }
    ms_put(&lane->sql, ")", 1);
}

/* Rows with the versions they must have, some at a time: MariaDB's time for such a condition grows with the
 * square of its length. */
static void put_expectations(my_lane *lane, size_t *n_there, size_t *n_absent)
{
    const my_group *g = &lane->group;
    ms_text *sql = &lane->sql;
    *n_there = *n_absent = 0;
    for (size_t i = 0; i < g->n_rows; i++) {
        const my_row *row = g->rows[i];
        if (!row->based || !row->base)
            continue;
        size_t at = (*n_there)++;
        if (at && at % PAIRS_AT_ONCE == 0)
            end_statement(lane);
        if (at % PAIRS_AT_ONCE == 0)
            ms_putf(sql, "SELECT COUNT(*) INTO @tn_there%zu FROM tenon_kv WHERE (k=",
                    at / PAIRS_AT_ONCE);
        else
            ms_puts(sql, " OR (k=");
        ms_put_bytes(sql, row->key.p, row->key.n);
        ms_puts(sql, " AND ver=");
        ms_put_u64(sql, row->base);
        ms_put(sql, ")", 1);
    }
    if (*n_there)
        end_statement(lane);
    for (size_t i = 0; i < g->n_rows; i++) {
        const my_row *row = g->rows[i];
        if (!row->based || row->base)
            continue;
        ms_puts(sql,
                (*n_absent)++ ? "," : "SELECT COUNT(*) INTO @tn_absent FROM tenon_kv WHERE k IN (");
        ms_put_bytes(sql, row->key.p, row->key.n);
    }
    if (*n_absent) {
        ms_put(sql, ")", 1);
        end_statement(lane);
    }
}

my_outcome my_write_short(my_lane *lane, tn_error *err)
{
    my_group *g = &lane->group;
    ms_text *sql = &lane->sql;
    ms_reply reply;
    size_t n_there, n_absent;
    if (!my_group_begin(lane, false)) {
        ms_error(err, TN_EUNAVAILABLE, 0, "out of memory");
        return MY_REFUSED;
    }
    my_group_decide(lane);
    if (g->must_look || g->pool.failed || g->text_most > lane->conn.packet_max)
        return MY_LOOK;
    begin_text(lane);
    add(lane, "BEGIN");
    ms_puts(sql, "SELECT COUNT(*) INTO @tn_ours FROM tenon_partition WHERE part IN ");
    put_parts(lane);
    ms_puts(sql, " AND lane=");
    ms_put_u64(sql, lane->id);
    ms_puts(sql, " FOR UPDATE");
    end_statement(lane);
    put_expectations(lane, &n_there, &n_absent);
    ms_puts(sql, "INSERT INTO tenon_lane (id,epoch,seq) VALUES (");
    ms_put_u64(sql, lane->id);
    ms_put(sql, ",", 1);
    ms_put_u64(sql, lane->epoch);
    ms_put(sql, ",", 1);
    ms_put_u64(sql, lane->seq);
    ms_putf(sql, " DIV (@tn_ours=%zu", g->n_parts);
    for (size_t i = 0; i < n_there; i += PAIRS_AT_ONCE)
        ms_putf(sql, "%s@tn_there%zu", i ? "+" : " AND ", i / PAIRS_AT_ONCE);
    if (n_there)
        ms_putf(sql, "=%zu", n_there);
    if (n_absent)
        ms_puts(sql, " AND @tn_absent=0");
    ms_puts(sql, ")) ON DUPLICATE KEY UPDATE seq=VALUES(seq) DIV (epoch=VALUES(epoch))");
    end_statement(lane);
    put_changes(lane, err);
    size_t commit_at = lane->statements;
    add(lane, "COMMIT");
    ms_fault f = send(lane, &reply, err);
    size_t at = reply.n;
    ms_reply_done(&reply);
    if (f == MS_SQL)
        return refused(lane, at, commit_at, err);
    return f == MS_FINE ? MY_DONE : MY_LOST;
}

/* ---- the long way ------------------------------------------------------------------------------- */

/* Statements that read rows by their keys, as far as one text takes them. */
static size_t put_lookups(my_lane *lane, size_t from)
{
    const my_group *g = &lane->group;
    ms_text *sql = &lane->sql;
    size_t at = from, n = 0;
    for (; at < g->n_rows && n < KEYS_AT_ONCE; at++, n++) {
        ms_puts(sql, n ? "," : "SELECT k,ver FROM tenon_kv WHERE k IN (");
        ms_put_bytes(sql, g->rows[at]->key.p, g->rows[at]->key.n);
    }
    if (n) {
        ms_put(sql, ")", 1);
        end_statement(lane);
    }
    return at;
}

static void note_rows(my_lane *lane, MYSQL_RES *rows)
{
    for (MYSQL_ROW row; rows && (row = mysql_fetch_row(rows));) {
        const unsigned long *n = mysql_fetch_lengths(rows);
        my_key key = {(const uint8_t *)row[0], (uint32_t)n[0]};
        my_row *known = my_group_row(&lane->group, key); /* is there */
        if (known)
            known->base = ms_u64(row, 1);
    }
}

static void note_parts(my_lane *lane, MYSQL_RES *rows)
{
    my_group *g = &lane->group;
    for (size_t i = 0; i < g->n_parts; i++) {
        g->parts[i]->is_new = true;
        g->parts[i]->changed = false;
    }
    for (MYSQL_ROW row; rows && (row = mysql_fetch_row(rows));) {
        const unsigned long *n = mysql_fetch_lengths(rows);
        my_part *part = my_part_get(lane, (const uint8_t *)row[0], n[0]);
        if (!part)
            continue;
        part->is_new = false;
        if (part->ours && ms_u64(row, 1) == lane->id)
            continue;
        part->ours = false;
        part->changed = true;
        part->ceiling = ms_u64(row, 2);
        if (part->last < part->ceiling)
            part->last = part->ceiling;
    }
}

static bool ask_rows(my_lane *lane)
{
    my_group *g = &lane->group;
    for (size_t i = 0; i < g->n; i++) {
        const tn_batch *batch = g->members[i]->req->batch;
        for (size_t k = 0; k < batch->n_conds; k++) {
            my_key key = my_key_make(&g->pool, &batch->conds[k].key);
            my_row *row = key.n ? my_group_row(g, key) : NULL;
            if (!row)
                return false;
            row->based = true;
        }
    }
    return true;
}

static ms_fault look_first(my_lane *lane, size_t *at, bool *ours, tn_error *err)
{
    my_group *g = &lane->group;
    ms_text *sql = &lane->sql;
    ms_reply reply;
    begin_text(lane);
    /* Should this process end between two texts, the locks don't stay for hours. */
    add(lane, "SET SESSION wait_timeout=20");
    add(lane, "BEGIN");
    ms_puts(sql, "SELECT part,lane,ceiling FROM tenon_partition WHERE part IN ");
    put_parts(lane);
    ms_puts(sql, " FOR UPDATE");
    end_statement(lane);
    ms_puts(sql, "SELECT 1 FROM tenon_lane WHERE id=");
    ms_put_u64(sql, lane->id);
    ms_puts(sql, " AND epoch=");
    ms_put_u64(sql, lane->epoch);
    ms_puts(sql, " FOR UPDATE");
    end_statement(lane);
    size_t next = put_lookups(lane, 0);
    ms_fault f = send(lane, &reply, err);
    *at = reply.n;
    *ours = false;
    if (f == MS_FINE) {
        note_parts(lane, reply.rows[2]);
        *ours = reply.rows[3] && mysql_num_rows(reply.rows[3]) == 1;
        note_rows(lane, reply.rows[4]);
    }
    ms_reply_done(&reply);
    while (f == MS_FINE && next < g->n_rows) {
        next = put_lookups(lane, next);
        f = send(lane, &reply, err);
        if (f == MS_FINE)
            note_rows(lane, reply.rows[0]);
        ms_reply_done(&reply);
    }
    return f;
}

/* The rows that stand in the way of members, for their callers. */
static void give_current(my_lane *lane, MYSQL_ROW row, const unsigned long *n)
{
    const tn_host *host = lane->inst->host;
    my_key key = {(const uint8_t *)row[0], (uint32_t)n[0]};
    for (size_t i = 0; i < lane->group.n; i++) {
        my_member *m = lane->group.members[i];
        if (!m->wanted.n || my_key_cmp(m->wanted, key) != 0)
            continue;
        uint8_t *copy = host->op_alloc(m->req->op, n[1] ? n[1] : 1, 1);
        if (!copy) {
            m->status = ms_error(&m->err, TN_ETOOLARGE, 0,
                                 "the conflicting row does not fit the operation's memory");
            continue;
        }
        memcpy(copy, row[1], n[1]);
        m->req->out->current.value = (tn_blob){copy, n[1]};
    }
}

static ms_fault read_current(my_lane *lane, tn_error *err)
{
    const my_group *g = &lane->group;
    ms_reply reply;
    for (size_t i = 0; i < g->n;) {
        size_t n = 0;
        begin_text(lane);
        for (; i < g->n && n < 16; i++) {
            if (!g->members[i]->wanted.n)
                continue;
            ms_puts(&lane->sql, n++ ? "," : "SELECT k,val FROM tenon_kv WHERE k IN (");
            ms_put_bytes(&lane->sql, g->members[i]->wanted.p, g->members[i]->wanted.n);
        }
        if (!n)
            break;
        ms_put(&lane->sql, ")", 1);
        end_statement(lane);
        ms_fault f = send(lane, &reply, err);
        for (MYSQL_ROW row; f == MS_FINE && (row = mysql_fetch_row(reply.rows[0]));)
            give_current(lane, row, mysql_fetch_lengths(reply.rows[0]));
        ms_reply_done(&reply);
        if (f != MS_FINE)
            return f;
    }
    return MS_FINE;
}

static void put_leases(my_lane *lane)
{
    const my_group *g = &lane->group;
    ms_text *sql = &lane->sql;
    for (size_t i = 0; i < g->n_parts; i++) {
        my_part *part = g->parts[i];
        if (part->ours && part->last > part->ceiling)
            part->changed = true;
        if (!part->is_new && !part->changed)
            continue;
        part->lease = (part->last > part->ceiling ? part->last : part->ceiling) + MY_LEASE;
        if (part->is_new) {
            ms_puts(sql, "INSERT INTO tenon_partition (part,lane,ceiling) VALUES (");
            ms_put_bytes(sql, part->p, part->n);
            ms_put(sql, ",", 1);
            ms_put_u64(sql, lane->id);
            ms_put(sql, ",", 1);
            ms_put_u64(sql, part->lease);
            ms_put(sql, ")", 1);
        } else {
            ms_puts(sql, "UPDATE tenon_partition SET lane=");
            ms_put_u64(sql, lane->id);
            ms_puts(sql, ",ceiling=");
            ms_put_u64(sql, part->lease);
            ms_puts(sql, " WHERE part=");
            ms_put_bytes(sql, part->p, part->n);
        }
        end_statement(lane);
    }
}

void my_write_settle(my_lane *lane, bool committed)
{
    const my_group *g = &lane->group;
    for (size_t i = 0; i < g->n_parts; i++) {
        my_part *part = g->parts[i];
        if (!part->is_new && !part->changed)
            continue;
        part->ours = committed;
        if (committed)
            part->ceiling = part->lease;
        part->is_new = part->changed = false;
    }
}

static my_outcome write_and_end(my_lane *lane, bool *sent, tn_error *err)
{
    ms_text *sql = &lane->sql;
    ms_reply reply;
    begin_text(lane);
    put_leases(lane);
    ms_puts(sql, "UPDATE tenon_lane SET seq=");
    ms_put_u64(sql, lane->seq);
    ms_puts(sql, " WHERE id=");
    ms_put_u64(sql, lane->id);
    end_statement(lane);
    ms_fault f = put_changes(lane, err);
    if (f == MS_FINE)
        f = make_room(lane, 200, err);
    if (f != MS_FINE)
        return f == MS_SQL ? refused(lane, 0, 1, err) : MY_LOST;
    size_t commit_at = lane->statements;
    add(lane, "COMMIT");
    add(lane, "SET SESSION wait_timeout=DEFAULT");
    *sent = true;
    f = send(lane, &reply, err);
    size_t at = reply.n;
    ms_reply_done(&reply);
    if (f == MS_SQL)
        return refused(lane, at, commit_at, err);
    return f == MS_FINE ? MY_DONE : MY_LOST;
}

my_outcome my_write_long(my_lane *lane, bool *sent, tn_error *err)
{
    my_group *g = &lane->group;
    size_t at;
    bool ours;
    *sent = false;
    if (!my_group_begin(lane, true) || !ask_rows(lane)) {
        ms_error(err, TN_EUNAVAILABLE, 0, "out of memory");
        return MY_REFUSED;
    }
    ms_fault f = look_first(lane, &at, &ours, err);
    if (f != MS_FINE)
        return f == MS_SQL ? refused(lane, at, SIZE_MAX, err) : MY_LOST;
    if (!ours) { /* another connection of this lane's was made, or the row is gone */
        ms_disconnect(&lane->conn);
        lane->registered = false;
        ms_error(err, TN_EUNAVAILABLE, 0, "the connection's epoch is over");
        return MY_AGAIN;
    }
    my_group_decide(lane);
    if (g->pool.failed) {
        ms_error(err, TN_EUNAVAILABLE, 0, "out of memory");
        return take_back(lane, MY_REFUSED);
    }
    f = read_current(lane, err);
    if (f != MS_FINE)
        return f == MS_SQL ? refused(lane, 0, 1, err) : MY_LOST;
    if (!g->writes)
        return take_back(lane, MY_DONE);
    return write_and_end(lane, sent, err);
}
