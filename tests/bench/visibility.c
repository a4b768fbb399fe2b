/* SPDX-License-Identifier: MIT */
/* The sqlite visibility driver at size: fills a file with closed and open runs, then times lists and
 * counts, and says what was written.  Usage: visibility FILE [CLOSED] [OPEN]; an existing file is only
 * asked. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "../unit/visibility_sqlite/host.h"

#define NS "0b7a1e2c-7f64-4d3e-9a55-6f1f0c9d8e01"
#define T0 INT64_C(1790000000000000000)
#define FLIGHT 2048
#define TYPES 20

static const char *const closings[] = {"Completed", "Completed", "Completed", "Completed",
                                       "Completed", "Completed", "Completed", "Failed",
                                       "TimedOut",  "Canceled"};

static uint64_t written_bytes(void)
{
    char line[128];
    unsigned long long n = 0;
    FILE *f = fopen("/proc/self/io", "r");
    while (f && fgets(line, sizeof(line), f))
        sscanf(line, "write_bytes: %llu", &n);
    if (f)
        fclose(f);
    return n;
}

static double cpu_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

static void fill(tn_arena *arena, uint64_t n, bool open, bool starting, tn_vis_doc *doc)
{
    tn_attr *attrs = TN_NEW_ARRAY(arena, tn_attr, 20);
    size_t k = 0;
    int64_t start = T0 + (int64_t)n * 1000000,
            took = 40000000 + (int64_t)(n * 7919 % 1000) * 1000000;
    char *type = tn_arena_printf(arena, "WorkflowType%02llu", (unsigned long long)(n / 10 % TYPES));
    uint8_t id[16];
    tn_rng own;
    tn_rng_seed(&own, n);
    tn_uuid_v7(&own, (uint64_t)start, id);
    char *run = tn_arena_alloc(arena, 40), *workflow = tn_arena_alloc(arena, 40);
    tn_uuid_format(id, run);
    tn_uuid_v4(&own, id);
    tn_uuid_format(id, workflow);
    attrs[k++] = test_attr("WorkflowType", TN_ATTR_KEYWORD, test_text(type));
    attrs[k++] = test_attr("ExecutionStatus", TN_ATTR_KEYWORD,
                           test_text(open || starting ? "Running" : closings[n * 17 % 10]));
    attrs[k++] = test_attr("TaskQueue", TN_ATTR_KEYWORD, test_text("task-queue"));
    attrs[k++] = test_attr("RootWorkflowId", TN_ATTR_KEYWORD, test_text(workflow));
    attrs[k++] = test_attr("RootRunId", TN_ATTR_KEYWORD, test_text(run));
    attrs[k++] = test_attr("StartTime", TN_ATTR_DATETIME, test_i64(arena, start));
    attrs[k++] = test_attr("ExecutionTime", TN_ATTR_DATETIME, test_i64(arena, start));
    if (!open && !starting) {
        attrs[k++] = test_attr("CloseTime", TN_ATTR_DATETIME, test_i64(arena, start + took));
        attrs[k++] = test_attr("ExecutionDuration", TN_ATTR_INT, test_i64(arena, took));
        attrs[k++] = test_attr("HistoryLength", TN_ATTR_INT, test_i64(arena, 11));
        attrs[k++] = test_attr("HistorySizeBytes", TN_ATTR_INT, test_i64(arena, 1500));
        attrs[k++] = test_attr("StateTransitionCount", TN_ATTR_INT, test_i64(arena, 7));
    }
    if (n % 10 == 0)
        attrs[k++] = test_attr(
            "CustomerId", TN_ATTR_KEYWORD,
            test_text(tn_arena_printf(arena, "customer-%llu", (unsigned long long)(n / 1000))));
    *doc = (tn_vis_doc){.struct_size = sizeof(*doc),
                        .ns_id = TN_STR(NS),
                        .workflow_id = tn_str_from(workflow),
                        .run_id = tn_str_from(run),
                        .version = starting ? 1 : 2,
                        .attrs = attrs,
                        .n_attrs = k};
}

enum { STARTS, CLOSES, BOTH };

/* Puts runs begin..end, so many at a time under way; BOTH: a run's start and its close together. */
static void put_runs(test_driver *driver, uint64_t begin, uint64_t end, uint64_t first_open,
                     unsigned flight, int phase)
{
    static test_op *ops[FLIGHT];
    static tn_status begun[FLIGHT];
    static tn_vis_doc docs[FLIGHT];
    unsigned each = phase == BOTH ? 2 : 1;
    for (uint64_t at = begin; at < end; at += flight) {
        uint64_t count = (end - at < flight ? end - at : flight) * each;
        for (uint64_t i = 0; i < count; i++) {
            uint64_t n = at + i / each;
            bool start = phase == STARTS || (phase == BOTH && i % 2 == 0);
            ops[i] = test_op_create();
            fill(test_op_arena(ops[i]), n, n >= first_open, start, &docs[i]);
            begun[i] = driver->ops->put(driver->ctx, test_op_handle(ops[i]), &docs[i]);
        }
        for (uint64_t i = 0; i < count; i++) {
            tn_error err = {0};
            if (test_op_wait(ops[i], begun[i], &err) != TN_OK) {
                fprintf(stderr, "put: %s\n", err.text);
                exit(1);
            }
            test_op_destroy(ops[i]);
        }
    }
}

/* What a run costs in bytes on disk when so many are under way at a time. */
static void measure_writes(test_driver *driver, uint64_t base)
{
    static const unsigned flights[] = {1, 8, 64, 256}, runs[] = {200, 2000, 19200, 20480};
    for (size_t i = 0; i < TN_COUNT_OF(flights); i++) {
        unsigned n = runs[i];
        double bytes[3];
        double cpu = cpu_seconds();
        for (int phase = STARTS; phase <= BOTH; phase++) {
            uint64_t before = written_bytes();
            uint64_t first = phase == BOTH ? base + n : base;
            put_runs(driver, first, first + n, UINT64_MAX, flights[i], phase);
            bytes[phase] = (double)(written_bytes() - before) / n;
        }
        base += 2 * n;
        printf("bytes written a run, %3u at a time: start %6.0f + close %6.0f; gathered %6.0f; "
               "CPU a put %.1f us\n",
               flights[i], bytes[STARTS], bytes[CLOSES], bytes[BOTH],
               (cpu_seconds() - cpu) / (4 * n) * 1e6);
    }
}

typedef struct question {
    const char *what;
    const char *names[2], *values[2];
    uint32_t ops[2];
    bool count, grouped;
    const char *order;
} question;

static const question questions[] = {
    {.what = "list, everything"},
    {.what = "list WorkflowType", .names = {"WorkflowType"}, .values = {"WorkflowType07"}},
    {.what = "list ExecutionStatus=Running", .names = {"ExecutionStatus"}, .values = {"Running"}},
    {.what = "list ExecutionStatus=Failed", .names = {"ExecutionStatus"}, .values = {"Failed"}},
    {.what = "list WorkflowType and status",
     .names = {"WorkflowType", "ExecutionStatus"},
     .values = {"WorkflowType07", "Failed"}},
    {.what = "list WorkflowType of none", .names = {"WorkflowType"}, .values = {"no-such-type"}},
    {.what = "list WorkflowId", .names = {"WorkflowId"}, .values = {"00000000-no-such-id"}},
    {.what = "list WorkflowId STARTS_WITH",
     .names = {"WorkflowId"},
     .values = {"abc"},
     .ops = {TN_VIS_STARTS}},
    {.what = "list CustomerId", .names = {"CustomerId"}, .values = {"customer-77"}},
    {.what = "list CustomerId and Completed",
     .names = {"CustomerId", "ExecutionStatus"},
     .values = {"customer-77", "Completed"}},
    {.what = "count, everything", .count = true},
    {.what = "count WorkflowType",
     .names = {"WorkflowType"},
     .values = {"WorkflowType07"},
     .count = true},
    {.what = "count ExecutionStatus",
     .names = {"ExecutionStatus"},
     .values = {"Completed"},
     .count = true},
    {.what = "count WorkflowType and status",
     .names = {"WorkflowType", "ExecutionStatus"},
     .values = {"WorkflowType07", "Failed"},
     .count = true},
    {.what = "count by ExecutionStatus", .count = true, .grouped = true},
    {.what = "count CustomerId", .names = {"CustomerId"}, .values = {"customer-77"}, .count = true},
    {.what = "scan: count TaskQueue",
     .names = {"TaskQueue"},
     .values = {"task-queue"},
     .count = true},
    {.what = "scan: list TaskQueue of none", .names = {"TaskQueue"}, .values = {"task-queu"}},
    {.what = "scan: list by HistoryLength", .order = "HistoryLength"},
};

static void ask(test_driver *driver, const question *asked)
{
    tn_vis_node nodes[4] = {{.op = TN_VIS_IS_NULL,
                             .name = TN_STR("TemporalNamespaceDivision"),
                             .type = TN_ATTR_KEYWORD}};
    tn_blob values[2];
    size_t n = 1;
    for (size_t i = 0; i < 2 && asked->names[i]; i++) {
        values[i] = test_text(asked->values[i]);
        nodes[n++] = (tn_vis_node){.op = asked->ops[i] ? asked->ops[i] : TN_VIS_EQ,
                                   .name = tn_str_from(asked->names[i]),
                                   .type = TN_ATTR_KEYWORD,
                                   .n_values = 1,
                                   .values = &values[i]};
    }
    if (n > 1)
        nodes[n] = (tn_vis_node){.op = TN_VIS_AND, .arity = (uint32_t)n}, n++;
    tn_attr group = {.name = TN_STR("ExecutionStatus"), .type = TN_ATTR_KEYWORD};
    tn_vis_order order = {.name = tn_str_from(asked->order), .type = TN_ATTR_INT};
    tn_vis_query q = {.struct_size = sizeof(q),
                      .ns_id = TN_STR(NS),
                      .limit = 100,
                      .filter = nodes,
                      .n_filter = n,
                      .group_by = &group,
                      .n_group_by = asked->grouped ? 1 : 0,
                      .order = &order,
                      .n_order = asked->order ? 1 : 0};
    double worst = 0, best = 1e9;
    uint64_t answer = 0;
    for (int i = 0; i < 5; i++) {
        tn_vis_page page;
        test_op *op = test_op_create();
        uint64_t began = tn_now_mono_ns();
        tn_status status =
            asked->count ? test_count(driver, op, &q, &page) : test_list(driver, op, &q, &page);
        double ms = (double)(tn_now_mono_ns() - began) / 1e6;
        if (status != TN_OK)
            printf("%s: %s\n", asked->what, tn_status_name(status));
        answer = asked->count ? page.count : page.n_docs;
        worst = ms > worst ? ms : worst;
        best = ms < best ? ms : best;
        test_op_destroy(op);
    }
    printf("%-34s %9llu  first %8.2f ms, best %8.2f ms\n", asked->what, (unsigned long long)answer,
           worst, best);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 2) {
        fprintf(stderr, "usage: visibility FILE [CLOSED] [OPEN]\n");
        return 2;
    }
    uint64_t closed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;
    uint64_t open = argc > 3 ? strtoull(argv[3], NULL, 10) : 100000;
    const test_setting settings[] = {{"path", argv[1]},
                                     {"linger", "5ms"},
                                     {getenv("PAGE_SIZE") ? "pageSize" : "-", getenv("PAGE_SIZE")},
                                     {getenv("WAL_BYTES") ? "walBytes" : "-", getenv("WAL_BYTES")},
                                     {NULL, NULL}};
    struct stat st;
    bool fresh = stat(argv[1], &st) != 0;
    test_driver driver;
    tn_error err = {0};
    uint64_t began = tn_now_mono_ns();
    if (test_driver_open(settings, &driver, &err) != TN_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("open: %.1f ms\n", (double)(tn_now_mono_ns() - began) / 1e6);
    if (fresh) {
        measure_writes(&driver, closed + open + 100000);
        uint64_t before = written_bytes();
        double cpu = cpu_seconds();
        began = tn_now_mono_ns();
        put_runs(&driver, 0, closed + open, closed, FLIGHT, CLOSES);
        printf("filled: %.1f s, %.1f us CPU and %.0f bytes written a run\n",
               (double)(tn_now_mono_ns() - began) / 1e9,
               (cpu_seconds() - cpu) / (double)(closed + open) * 1e6,
               (double)(written_bytes() - before) / (double)(closed + open));
    }
    for (size_t i = 0; i < TN_COUNT_OF(questions); i++)
        ask(&driver, &questions[i]);
    measure_writes(&driver, 20000000 + tn_now_mono_ns() / TN_SEC * 200000); /* runs of its own */
    test_driver_close(&driver);
    if (stat(argv[1], &st) == 0)
        printf("file: %.1f MB\n", (double)st.st_size / 1e6);
    return 0;
}
