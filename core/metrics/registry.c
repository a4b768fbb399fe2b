/* SPDX-License-Identifier: MIT */
/* Families, series and the cells they count in.
 *
 * Cells are numbered; each thread has a shard, a table of chunks of cells that only it writes, so
 * an addition is a plain load and store.  A shard outlives its thread and is taken over, counts
 * and all, by a later one.  Families and series are only ever added, and published with release,
 * so that rendering reads them without the lock that guards making them.  (The lock is this room's
 * exception to "no locks": it is taken when a series is looked up, not when it counts.) */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "metrics/private.h"

#define CHUNK_CELLS 512u
#define CHUNKS_MAX 512u
#define CELLS_MAX (CHUNK_CELLS * CHUNKS_MAX)
#define BUCKETS_MAX 24u
#define SPARE_CELLS (BUCKETS_MAX + 4u) /* the first cells: for series that are not shown */
#define VALUE_MAX_BYTES 128u

typedef _Atomic uint64_t cell;

struct shard {
    struct shard *next;      /* in all_shards */
    struct shard *next_free; /* in free_shards */
    _Atomic(cell *) chunks[CHUNKS_MAX];
};

typedef enum kind { COUNTER, GAUGE, HISTOGRAM, GAUGE_FN } kind;

typedef struct series {
    tn_map_link link; /* by name, NUL, labels */
    _Atomic(struct series *) next;
    char *key;
    const char *labels; /* rendered, without braces; inside key */
    uint32_t first_cell;
    const struct bounds *bounds;
    cell gauge; /* bits of a double */
    double (*fn)(void *user);
    void *user;
} series;

struct tn_counter {
    series s;
};
struct tn_gauge {
    series s;
};
struct tn_histogram {
    series s;
};

typedef struct family {
    tn_map_link link;
    _Atomic(struct family *) next;
    char *name, *help;
    kind kind;
    size_t count;
    _Atomic(series *) first;
    series *last, *other;
} family;

static const struct bounds {
    size_t n;
    double at[BUCKETS_MAX];
} bucket_sets[] = {
    [TN_BUCKETS_SECONDS] = {20, {0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
                                 1,      2,     5,     10,    20,   50,   100,  200, 500, 1000}},
    [TN_BUCKETS_BYTES] = {10,
                          {256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216,
                           67108864}},
    [TN_BUCKETS_COUNT] = {16,
                          {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000,
                           50000, 100000}},
    [TN_BUCKETS_CALLS] = {8, {0.000001, 0.00001, 0.0001, 0.001, 0.01, 0.05, 0.1, 1}},
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static tn_map families_by_name, series_by_key;
static _Atomic(family *) first_family;
static family *last_family;
static uint32_t cells_used = SPARE_CELLS;
static series hidden = {.bounds = &bucket_sets[TN_BUCKETS_SECONDS]};

/* ---- shards ---- */

static _Atomic(struct shard *) all_shards;
static struct shard *free_shards; /* under the lock */
static _Thread_local struct shard *mine;
static pthread_key_t shard_key;
static pthread_once_t shard_once = PTHREAD_ONCE_INIT;

static void shard_give_back(void *p)
{
    struct shard *s = p;
    mine = NULL;
    pthread_mutex_lock(&lock);
    s->next_free = free_shards;
    free_shards = s;
    pthread_mutex_unlock(&lock);
}

static void shard_make_key(void)
{
    TN_ASSERT(pthread_key_create(&shard_key, shard_give_back) == 0);
}

static struct shard *shard_take(void)
{
    pthread_once(&shard_once, shard_make_key);
    pthread_mutex_lock(&lock);
    struct shard *s = free_shards;
    if (s) {
        free_shards = s->next_free;
    } else {
        s = tn_xcalloc(1, sizeof *s);
        s->next = atomic_load_explicit(&all_shards, memory_order_relaxed);
        atomic_store_explicit(&all_shards, s, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    pthread_setspecific(shard_key, s);
    mine = s;
    return s;
}

static cell *my_cells(uint32_t first)
{
    struct shard *s = mine ? mine : shard_take();
    cell *chunk = atomic_load_explicit(&s->chunks[first / CHUNK_CELLS], memory_order_relaxed);
    if (!chunk) {
        chunk = tn_xcalloc(CHUNK_CELLS, sizeof *chunk);
        atomic_store_explicit(&s->chunks[first / CHUNK_CELLS], chunk, memory_order_release);
    }
    return &chunk[first % CHUNK_CELLS];
}

static void cell_add(cell *c, uint64_t n)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static double as_double(uint64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

static uint64_t as_bits(double d)
{
    uint64_t bits;
    memcpy(&bits, &d, sizeof bits);
    return bits;
}

/* Sums one cell over all shards, as numbers or as doubles. */
static void cell_sum(uint32_t index, uint64_t *number, double *real)
{
    *number = 0;
    *real = 0;
    for (struct shard *s = atomic_load_explicit(&all_shards, memory_order_acquire); s;
         s = s->next) {
        cell *chunk = atomic_load_explicit(&s->chunks[index / CHUNK_CELLS], memory_order_acquire);
        if (!chunk)
            continue;
        uint64_t v = atomic_load_explicit(&chunk[index % CHUNK_CELLS], memory_order_relaxed);
        *number += v;
        *real += as_double(v);
    }
}

static uint64_t cell_total(uint32_t index)
{
    uint64_t number;
    double real;
    cell_sum(index, &number, &real);
    return number;
}

/* A series' cells lie in one chunk. */
static bool cells_take(uint32_t n, uint32_t *out)
{
    uint32_t at = cells_used;
    if (at % CHUNK_CELLS + n > CHUNK_CELLS)
        at = (at / CHUNK_CELLS + 1) * CHUNK_CELLS;
    if (at + n > CELLS_MAX)
        return false;
    cells_used = at + n;
    *out = at;
    return true;
}

/* ---- making ---- */

static char name_char(char c, bool first)
{
    bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
              (!first && c >= '0' && c <= '9');
    return ok ? c : '_';
}

static void put_name(tn_buf *out, const char *name)
{
    for (size_t i = 0; name[i] || i == 0; i++)
        tn_buf_put_u8(out, (uint8_t)name_char(name[i], i == 0));
}

static void put_value(tn_buf *out, tn_str value)
{
    size_t n = value.n < VALUE_MAX_BYTES ? value.n : VALUE_MAX_BYTES;
    while (n && n < value.n && ((uint8_t)value.p[n] & 0xc0) == 0x80)
        n--; /* cut on a character's border */
    bool valid = tn_utf8_valid((const uint8_t *)value.p, n);
    for (size_t i = 0; i < n; i++) {
        char c = value.p[i];
        if (c == '\n')
            tn_buf_put(out, "\\n", 2);
        else if (c == '"' || c == '\\')
            tn_buf_put(out, (const char[]){'\\', c}, 2);
        else
            tn_buf_put_u8(out, (uint8_t)(!valid && (c & 0x80) ? '?' : c));
    }
}

/* "name NUL a="x",b="y" NUL" */
static void make_key(tn_buf *out, const char *name, const tn_label *labels, size_t n, bool other)
{
    put_name(out, name);
    tn_buf_put_u8(out, 0);
    for (size_t i = 0; i < n && i < TN_METRICS_LABELS_MAX; i++) {
        if (i)
            tn_buf_put_u8(out, ',');
        put_name(out, labels[i].key);
        tn_buf_put(out, "=\"", 2);
        put_value(out, other ? TN_STR("_other_") : labels[i].value);
        tn_buf_put_u8(out, '"');
    }
    tn_buf_put_u8(out, 0);
}

static family *family_find_or_make(const char *name, const char *help, kind k)
{
    tn_map_link *link = tn_map_find(&families_by_name, tn_blob_from(name, strlen(name)));
    if (link)
        return TN_CONTAINER_OF(link, family, link);
    family *f = tn_xcalloc(1, sizeof *f);
    f->name = tn_xstrdup(name);
    f->help = tn_xstrdup(help);
    f->kind = k;
    for (char *p = f->help; *p; p++)
        *p = *p == '\n' || *p == '\\' ? ' ' : *p;
    tn_map_insert(&families_by_name, &f->link, tn_blob_from(f->name, strlen(f->name)));
    if (last_family)
        atomic_store_explicit(&last_family->next, f, memory_order_release);
    else
        atomic_store_explicit(&first_family, f, memory_order_release);
    last_family = f;
    return f;
}

static series *series_make(family *f, const tn_buf *key, const struct bounds *bounds)
{
    uint32_t cells = f->kind == COUNTER     ? 1
                     : f->kind == HISTOGRAM ? (uint32_t)bounds->n + 2
                                            : 0,
             first = 0;
    if (cells && !cells_take(cells, &first))
        return &hidden;
    series *s = tn_xcalloc(1, sizeof *s);
    s->key = tn_xmalloc(key->n);
    memcpy(s->key, key->p, key->n);
    s->labels = s->key + strlen(s->key) + 1;
    s->first_cell = first;
    s->bounds = bounds;
    tn_map_insert(&series_by_key, &s->link, tn_blob_from(s->key, key->n));
    if (f->last)
        atomic_store_explicit(&f->last->next, s, memory_order_release);
    else
        atomic_store_explicit(&f->first, s, memory_order_release);
    f->last = s;
    f->count++;
    return s;
}

static series *find(const tn_buf *key)
{
    tn_map_link *link = tn_map_find(&series_by_key, tn_buf_blob(key));
    return link ? TN_CONTAINER_OF(link, series, link) : NULL;
}

static series *find_or_make(const char *name, const char *help, kind k, const struct bounds *bounds,
                            const tn_label *labels, size_t n, double (*fn)(void *user), void *user)
{
    tn_buf key = {0};
    make_key(&key, name, labels, n, false);
    pthread_mutex_lock(&lock);
    family *f = family_find_or_make((const char *)key.p, help, k);
    series *s = f->kind == k ? find(&key) : &hidden;
    if (!s && f->count >= TN_METRICS_SERIES_MAX) {
        key.n = 0;
        make_key(&key, name, labels, n, true);
        if (!f->other)
            f->other = series_make(f, &key, bounds);
        s = f->other;
    }
    if (!s) {
        s = series_make(f, &key, bounds);
        s->user = user;
        s->fn = fn;
    }
    pthread_mutex_unlock(&lock);
    tn_buf_done(&key);
    return s;
}

tn_counter *tn_metrics_counter(const char *name, const char *help, const tn_label *labels, size_t n)
{
    return (tn_counter *)find_or_make(name, help, COUNTER, NULL, labels, n, NULL, NULL);
}

tn_gauge *tn_metrics_gauge(const char *name, const char *help, const tn_label *labels, size_t n)
{
    return (tn_gauge *)find_or_make(name, help, GAUGE, NULL, labels, n, NULL, NULL);
}

tn_histogram *tn_metrics_histogram(const char *name, const char *help, tn_buckets buckets,
                                   const tn_label *labels, size_t n)
{
    return (tn_histogram *)find_or_make(name, help, HISTOGRAM, &bucket_sets[buckets], labels, n,
                                        NULL, NULL);
}

void tn_metrics_gauge_fn(const char *name, const char *help, const tn_label *labels, size_t n,
                         double (*fn)(void *user), void *user)
{
    find_or_make(name, help, GAUGE_FN, NULL, labels, n, fn, user);
}

/* ---- counting ---- */

void tn_counter_add(tn_counter *counter, uint64_t n)
{
    cell_add(my_cells(counter->s.first_cell), n);
}

void tn_gauge_set(tn_gauge *gauge, double value)
{
    atomic_store_explicit(&gauge->s.gauge, as_bits(value), memory_order_relaxed);
}

void tn_gauge_add(tn_gauge *gauge, double delta)
{
    uint64_t old = atomic_load_explicit(&gauge->s.gauge, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&gauge->s.gauge, &old,
                                                  as_bits(as_double(old) + delta),
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

/* Cells of a histogram: one a bound, one for what is above all, the sum. */
void tn_histogram_observe(tn_histogram *histogram, double value)
{
    const struct bounds *bounds = histogram->s.bounds;
    size_t low = 0, high = bounds->n;
    if (isnan(value))
        return;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (value <= bounds->at[middle])
            high = middle;
        else
            low = middle + 1;
    }
    cell *cells = my_cells(histogram->s.first_cell);
    cell *sum = &cells[bounds->n + 1];
    cell_add(&cells[low], 1);
    double before = as_double(atomic_load_explicit(sum, memory_order_relaxed));
    atomic_store_explicit(sum, as_bits(before + value), memory_order_relaxed);
}

void tn_histogram_observe_ns(tn_histogram *histogram, uint64_t ns)
{
    tn_histogram_observe(histogram, (double)ns / 1e9);
}

uint64_t tn_counter_value(const tn_counter *counter) { return cell_total(counter->s.first_cell); }

double tn_gauge_value(const tn_gauge *gauge)
{
    return as_double(atomic_load_explicit(&gauge->s.gauge, memory_order_relaxed));
}

uint64_t tn_histogram_count(const tn_histogram *histogram)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i <= histogram->s.bounds->n; i++)
        sum += cell_total(histogram->s.first_cell + i);
    return sum;
}

/* ---- rendering ---- */

static void put_number(tn_buf *out, double v)
{
    if (isnan(v))
        tn_buf_put(out, "NaN", 3);
    else if (isinf(v))
        tn_buf_printf(out, "%sInf", v < 0 ? "-" : "+");
    else
        tn_buf_printf(out, "%.15g", v);
}

static void put_sample(tn_buf *out, const char *name, const char *labels, double v)
{
    tn_buf_printf(out, *labels ? "%s{%s} " : "%s%s ", name, labels);
    put_number(out, v);
    tn_buf_put_u8(out, '\n');
}

static void put_histogram(tn_buf *out, const char *name, const series *s)
{
    const char *comma = *s->labels ? "," : "";
    uint64_t total = 0, number;
    double sum;
    for (uint32_t i = 0; i <= s->bounds->n; i++) {
        total += cell_total(s->first_cell + i);
        tn_buf_printf(out, "%s_bucket{%s%sle=\"", name, s->labels, comma);
        put_number(out, i < s->bounds->n ? s->bounds->at[i] : INFINITY);
        tn_buf_printf(out, "\"} %llu\n", (unsigned long long)total);
    }
    cell_sum(s->first_cell + (uint32_t)s->bounds->n + 1, &number, &sum);
    tn_buf_printf(out, *s->labels ? "%s_sum{%s} " : "%s_sum%s ", name, s->labels);
    put_number(out, sum);
    tn_buf_printf(out, *s->labels ? "\n%s_count{%s} %llu\n" : "\n%s_count%s %llu\n", name,
                  s->labels, (unsigned long long)total);
}

static void put_series(tn_buf *out, const family *f, const series *s)
{
    switch (f->kind) {
    case COUNTER:
        tn_buf_printf(out, *s->labels ? "%s{%s} %llu\n" : "%s%s %llu\n", f->name, s->labels,
                      (unsigned long long)cell_total(s->first_cell));
        break;
    case GAUGE:
        put_sample(out, f->name, s->labels,
                   as_double(atomic_load_explicit(&s->gauge, memory_order_relaxed)));
        break;
    case GAUGE_FN:
        if (s->fn)
            put_sample(out, f->name, s->labels, s->fn(s->user));
        break;
    case HISTOGRAM:
        put_histogram(out, f->name, s);
        break;
    }
}

void tn_metrics_render(tn_buf *out)
{
    static const char *const words[] = {"counter", "gauge", "histogram", "gauge"};
    for (const family *f = atomic_load_explicit(&first_family, memory_order_acquire); f;
         f = atomic_load_explicit(&f->next, memory_order_acquire)) {
        tn_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name,
                      words[f->kind]);
        for (const series *s = atomic_load_explicit(&f->first, memory_order_acquire); s;
             s = atomic_load_explicit(&s->next, memory_order_acquire))
            put_series(out, f, s);
    }
    tn_metrics_render_process(out);
}
