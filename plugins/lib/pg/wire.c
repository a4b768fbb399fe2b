/* SPDX-License-Identifier: MIT */
/* Parameters and results in PostgreSQL's binary formats: numbers are big-endian, an array has a head of 20
 * bytes (12 when it is empty), each element its length in front. */
#include "pg.h"

#include <endian.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_MAX ((int)(sizeof((tn_pg_params *)0)->slot / sizeof((tn_pg_params *)0)->slot[0]))

void tn_pg_params_clear(tn_pg_params *p)
{
    p->n = 0;
    p->n_slots = 0;
    p->failed = false;
}

void tn_pg_params_done(tn_pg_params *p)
{
    free(p->buf);
    *p = (tn_pg_params){0};
}

static void put(tn_pg_params *p, const void *data, size_t n)
{
    if (p->failed || n == 0)
        return;
    if (n > p->cap - p->n) {
        size_t cap = p->cap ? p->cap : 4096;
        while (n > cap - p->n) {
            if (cap > (size_t)INT_MAX) {
                p->failed = true;
                return;
            }
            cap *= 2;
        }
        uint8_t *grown = realloc(p->buf, cap);
        if (!grown) {
            p->failed = true;
            return;
        }
        p->buf = grown;
        p->cap = cap;
    }
    memcpy(p->buf + p->n, data, n);
    p->n += n;
}

static void put_u32(tn_pg_params *p, uint32_t value)
{
    value = htobe32(value);
    put(p, &value, sizeof value);
}

static void put_u64(tn_pg_params *p, uint64_t value)
{
    value = htobe64(value);
    put(p, &value, sizeof value);
}

/* A new parameter, whose bytes follow in the buffer. */
static bool open_slot(tn_pg_params *p)
{
    if (p->n_slots >= SLOTS_MAX)
        p->failed = true;
    if (p->failed)
        return false;
    p->slot[p->n_slots].at = p->n;
    p->slot[p->n_slots].null = p->slot[p->n_slots].borrowed = false;
    p->n_slots++;
    return true;
}

static void close_slot(tn_pg_params *p)
{
    if (p->failed)
        return;
    size_t n = p->n - p->slot[p->n_slots - 1].at;
    if (n > (size_t)INT_MAX)
        p->failed = true;
    else
        p->slot[p->n_slots - 1].length = (int)n;
}

void tn_pg_put_null(tn_pg_params *p)
{
    if (open_slot(p)) {
        p->slot[p->n_slots - 1].null = true;
        p->slot[p->n_slots - 1].length = 0;
    }
}

void tn_pg_put_i32(tn_pg_params *p, int32_t value)
{
    if (open_slot(p))
        put_u32(p, (uint32_t)value);
    close_slot(p);
}

void tn_pg_put_i64(tn_pg_params *p, int64_t value)
{
    if (open_slot(p))
        put_u64(p, (uint64_t)value);
    close_slot(p);
}

void tn_pg_put_f64(tn_pg_params *p, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    tn_pg_put_i64(p, (int64_t)bits);
}

void tn_pg_put_bool(tn_pg_params *p, bool value)
{
    uint8_t byte = value;
    if (open_slot(p))
        put(p, &byte, 1);
    close_slot(p);
}

void tn_pg_put_blob(tn_pg_params *p, const void *data, size_t n)
{
    if (n > (size_t)INT_MAX)
        p->failed = true;
    if (!open_slot(p))
        return;
    p->slot[p->n_slots - 1].borrowed = true;
    p->slot[p->n_slots - 1].p = n ? data : (const void *)"";
    p->slot[p->n_slots - 1].length = (int)n;
}

/* ---- arrays ------------------------------------------------------------------------------------- */

void tn_pg_array_begin(tn_pg_params *p, uint32_t element_oid)
{
    if (!open_slot(p))
        return;
    p->array_at = p->n;
    p->array_n = 0;
    put_u32(p, 1); /* dimensions */
    put_u32(p, 1); /* there may be nulls */
    put_u32(p, element_oid);
    put_u32(p, 0); /* elements, filled in by end */
    put_u32(p, 1); /* the first has number 1 */
}

void tn_pg_array_null(tn_pg_params *p)
{
    put_u32(p, UINT32_MAX);
    p->array_n++;
}

void tn_pg_array_start(tn_pg_params *p, size_t n)
{
    if (n > (size_t)INT_MAX)
        p->failed = true;
    put_u32(p, (uint32_t)n);
    p->array_n++;
}

void tn_pg_array_bytes(tn_pg_params *p, const void *data, size_t n) { put(p, data, n); }

void tn_pg_array_i32(tn_pg_params *p, int32_t value)
{
    tn_pg_array_start(p, 4);
    put_u32(p, (uint32_t)value);
}

void tn_pg_array_i64(tn_pg_params *p, int64_t value)
{
    tn_pg_array_start(p, 8);
    put_u64(p, (uint64_t)value);
}

void tn_pg_array_f64(tn_pg_params *p, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    tn_pg_array_i64(p, (int64_t)bits);
}

void tn_pg_array_blob(tn_pg_params *p, const void *data, size_t n)
{
    tn_pg_array_start(p, n);
    put(p, data, n);
}

void tn_pg_array_end(tn_pg_params *p)
{
    if (p->failed)
        return;
    uint32_t n = htobe32(p->array_n), zero = 0;
    if (p->array_n == 0) {
        memcpy(p->buf + p->array_at, &zero, 4);
        p->n = p->array_at + 12;
    } else {
        memcpy(p->buf + p->array_at + 12, &n, 4);
    }
    close_slot(p);
}

bool tn_pg_params_send(tn_pg_params *p, PGconn *db, const char *statement)
{
    if (p->failed)
        return false;
    const char *values[SLOTS_MAX];
    int lengths[SLOTS_MAX], formats[SLOTS_MAX];
    for (int i = 0; i < p->n_slots; i++) {
        values[i] = p->slot[i].null       ? NULL
                    : p->slot[i].borrowed ? (const char *)p->slot[i].p
                                          : (const char *)p->buf + p->slot[i].at;
        lengths[i] = p->slot[i].length;
        formats[i] = 1;
    }
    return PQsendQueryPrepared(db, statement, p->n_slots, values, lengths, formats, 1) == 1;
}

/* ---- results ------------------------------------------------------------------------------------ */

int64_t tn_pg_result_int(const PGresult *result, int row, int column)
{
    const char *p = PQgetvalue(result, row, column);
    uint64_t u64;
    uint32_t u32;
    uint16_t u16;
    switch (PQgetlength(result, row, column)) {
    case 8:
        memcpy(&u64, p, 8);
        return (int64_t)be64toh(u64);
    case 4:
        memcpy(&u32, p, 4);
        return (int32_t)be32toh(u32);
    case 2:
        memcpy(&u16, p, 2);
        return (int16_t)be16toh(u16);
    default:
        return 0;
    }
}

tn_blob tn_pg_result_blob(const PGresult *result, int row, int column)
{
    return (tn_blob){(const uint8_t *)PQgetvalue(result, row, column),
                     (size_t)PQgetlength(result, row, column)};
}
