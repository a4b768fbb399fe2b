/* SPDX-License-Identifier: MIT */
/* Numbers of runs by division, type and status.  The transaction that changes runs has locked them and read what they were,
 * so it knows what there is more and less of afterwards, and says so in the same transaction: the numbers are exact. */
#include "private.h"

#include <stdlib.h>

static int text_cmp(const mv_text *a, const mv_text *b)
{
    if (!a->p || !b->p)
        return (a->p != NULL) - (b->p != NULL);
    size_t n = a->n < b->n ? a->n : b->n;
    int c = n ? memcmp(a->p, b->p, n) : 0;
    return c ? c : (a->n > b->n) - (a->n < b->n);
}

/* One order for all writers, so that they don't wait for each other crosswise. */
static int kinds_cmp(const void *x, const void *y)
{
    const mv_kinds *a = x, *b = y;
    if (a->ns != b->ns)
        return a->ns < b->ns ? -1 : 1;
    int c = text_cmp(&a->division, &b->division);
    c = c ? c : text_cmp(&a->type, &b->type);
    return c ? c : text_cmp(&a->status, &b->status);
}

static void put_text(ms_text *sql, const mv_text *t)
{
    if (t->p)
        ms_put_bytes(sql, t->p, t->n);
    else
        ms_puts(sql, "NULL");
}

/* The digest is the one of schema/v2.sql. */
static void put_row(ms_text *sql, const mv_kinds *k)
{
    const mv_text *const texts[] = {&k->status, &k->type, &k->division};
    ms_putf(sql, "(%u,UNHEX(MD5(CONCAT_WS('|',%d", k->ns, k->division.p != NULL);
    for (size_t i = 0; i < MV_COUNT(texts); i++) {
        ms_puts(sql, texts[i]->p ? ",HEX(" : ",IFNULL(HEX(");
        put_text(sql, texts[i]);
        ms_puts(sql, texts[i]->p ? ")" : "),'-')");
    }
    ms_putf(sql, "))),CONNECTION_ID()%%16,%d", k->division.p != NULL);
    for (size_t i = 0; i < MV_COUNT(texts); i++) {
        ms_put(sql, ",", 1);
        put_text(sql, texts[i]);
    }
    ms_putf(sql, ",%lld)", (long long)k->n);
}

void mv_tally_put(ms_text *sql, mv_kinds *changes, size_t n)
{
    size_t rows = 0;
    if (n)
        qsort(changes, n, sizeof *changes, kinds_cmp);
    for (size_t i = 0, end; i < n; i = end) {
        mv_kinds sum = changes[i];
        for (end = i + 1; end < n && kinds_cmp(&changes[i], &changes[end]) == 0; end++)
            sum.n += changes[end].n;
        if (!sum.n)
            continue;
        ms_puts(sql, rows++ ? ","
                            : "INSERT INTO tenon_vis_tally "
                              "(ns,kind,share,part,status,type,division,n) VALUES ");
        put_row(sql, &sum);
    }
    if (rows)
        ms_puts(sql, " ON DUPLICATE KEY UPDATE n=n+VALUES(n);");
}

static bool is_counted(tn_str name)
{
    return tn_vd_str_is(name, "WorkflowType") || tn_vd_str_is(name, "ExecutionStatus") ||
           tn_vd_str_is(name, "TemporalNamespaceDivision");
}

bool mv_tally_knows(const tn_vis_query *query)
{
    for (size_t i = 0; i < query->n_filter; i++) {
        const tn_vis_node *node = &query->filter[i];
        bool logic = node->op >= TN_VIS_AND && node->op <= TN_VIS_NOT;
        if (!logic && !is_counted(node->name))
            return false;
    }
    for (size_t i = 0; i < query->n_group_by; i++)
        if (!is_counted(query->group_by[i].name))
            return false;
    return true;
}
