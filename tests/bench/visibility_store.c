/* SPDX-License-Identifier: MIT */
/* Figures of a visibility plugin through the real host:
 *
 *   visibility_store PLUGIN.so STANZA [-n RUNS] [-q QUERIES] [--only-queries] [--only NAME]
 *
 * Stores RUNS closed runs with five custom attributes, and one open run for each thousand, in a namespace of a fixed id;
 * then asks each of a set of lists and counts QUERIES times, with other values each time, and prints the
 * median and the 99th percentile in milliseconds.  STANZA as for visibility_kit. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tools/check/vkit.h"

#define BENCH_NS "5d1f6a60-6b1c-4a4f-9a52-0a5f6f1b7c01"
#define BATCH 2000
#define DAY (INT64_C(86400) * 1000000000)
#define KEYWORD TN_ATTR_KEYWORD

static const char *const regions[] = {"eu-north", "eu-west", "eu-south", "us-east",  "us-west",
                                      "ap-south", "ap-east", "sa-east",  "af-south", "me-north"};
static const char *const closed[] = {"Completed", "Completed", "Completed",  "Completed",
                                     "Completed", "Completed", "Failed",     "Completed",
                                     "TimedOut",  "Completed", "Terminated", "Completed"};
static tn_rng data_rng;
static uint64_t runs;

static char *print(const char *fmt, uint64_t n)
{
    char *text = tn_arena_alloc(kit_arena(), 64);
    KIT_CHECK(snprintf(text, 64, fmt, (unsigned long long)n) < 64);
    return text;
}

static vk_doc *make(uint64_t n)
{
    tn_rng *rng = &data_rng;
    bool open = n >= runs;
    int64_t start = VK_T0 + (int64_t)(n % runs) * (30 * DAY / (int64_t)runs);
    int64_t took = (int64_t)tn_rng_below(rng, 3600) * 1000000000;
    uint8_t id[16];
    vk_doc *d = TN_NEW(kit_arena(), vk_doc);
    char *run = tn_arena_alloc(kit_arena(), 40), *wf = tn_arena_alloc(kit_arena(), 48);
    tn_uuid_v7(rng, (uint64_t)start, id);
    tn_uuid_format(id, run);
    tn_uuid_v4(rng, id);
    memcpy(wf, "order-", 6);
    tn_uuid_format(id, wf + 6);
    d->doc = (tn_vis_doc){.struct_size = sizeof(tn_vis_doc),
                          .ns_id = TN_STR(BENCH_NS),
                          .workflow_id = tn_str_from(wf),
                          .run_id = tn_str_from(run),
                          .version = open ? 1 : 2,
                          .attrs = d->attrs};
    vk_add(d, "WorkflowId", KEYWORD, kit_text(wf));
    vk_add(d, "RunId", KEYWORD, kit_text(run));
    vk_add(d, "WorkflowType", KEYWORD, kit_text(print("Workflow%02llu", tn_rng_below(rng, 20))));
    vk_add(d, "ExecutionStatus", KEYWORD,
           kit_text(open ? "Running" : closed[tn_rng_below(rng, TN_COUNT_OF(closed))]));
    vk_add(d, "TaskQueue", KEYWORD, kit_text("main"));
    vk_add(d, "RootWorkflowId", KEYWORD, kit_text(wf));
    vk_add(d, "RootRunId", KEYWORD, kit_text(run));
    vk_add(d, "StartTime", TN_ATTR_DATETIME, vk_i64(start));
    vk_add(d, "ExecutionTime", TN_ATTR_DATETIME, vk_i64(start));
    if (!open) {
        vk_add(d, "CloseTime", TN_ATTR_DATETIME, vk_i64(start + took));
        vk_add(d, "ExecutionDuration", TN_ATTR_INT, vk_i64(took));
        vk_add(d, "HistoryLength", TN_ATTR_INT, vk_i64(5 + (int64_t)tn_rng_below(rng, 40)));
        vk_add(d, "HistorySizeBytes", TN_ATTR_INT, vk_i64(2000 + (int64_t)tn_rng_below(rng, 9000)));
        vk_add(d, "StateTransitionCount", TN_ATTR_INT, vk_i64(4 + (int64_t)tn_rng_below(rng, 20)));
    }
    vk_add(d, "CustomerId", KEYWORD, kit_text(print("customer-%06llu", tn_rng_below(rng, 100000))));
    vk_add(d, "Region", KEYWORD, kit_text(regions[tn_rng_below(rng, 10)]));
    vk_add(d, "Amount", TN_ATTR_INT, vk_i64((int64_t)tn_rng_below(rng, 1000)));
    vk_add(d, "Express", TN_ATTR_BOOL, vk_bool(tn_rng_below(rng, 20) == 0));
    vk_add(d, "Due", TN_ATTR_DATETIME, vk_i64(start + (int64_t)tn_rng_below(rng, 30) * DAY));
    return d;
}

static double cpu_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void load(void)
{
    uint64_t all = runs + runs / 1000, began = tn_now_mono_ns();
    double cpu = cpu_seconds();
    for (uint64_t at = 0; at < all; at += BATCH) {
        size_t n = all - at < BATCH ? (size_t)(all - at) : BATCH;
        vk_op *ops = tn_xcalloc(n, sizeof *ops);
        for (size_t i = 0; i < n; i++) {
            ops[i].verb = VK_PUT;
            ops[i].op.u.put.doc = make(at + i)->doc;
        }
        vk_run((uint32_t)(at / BATCH % 2), ops, n);
        for (size_t i = 0; i < n; i++)
            KIT_EQUAL(ops[i].op.status, TN_OK);
        free(ops);
        tn_arena_reset(kit_arena());
        if (at / BATCH % 50 == 0)
            fprintf(stderr, "\r%llu", (unsigned long long)at);
    }
    printf(
        "\rstored %llu runs in %.1f s, %.1f us of this process's CPU each (making them included)\n",
        (unsigned long long)all, (double)(tn_now_mono_ns() - began) / 1e9,
        (cpu_seconds() - cpu) * 1e6 / (double)all);
}

/* ---- queries ------------------------------------------------------------------------------------ */

enum { TYPE, STATUS, WORKFLOW_TIME, CUSTOMER, REGION, AMOUNT, EXPRESS, NOT_EXPRESS, CLOSED_AFTER };

static tn_vis_node condition(int what)
{
    tn_rng *rng = &data_rng;
    tn_blob v;
    switch (what) {
    case TYPE:
        return vk_is("WorkflowType", print("Workflow%02llu", tn_rng_below(rng, 20)));
    case STATUS:
        return vk_is("ExecutionStatus", tn_rng_below(rng, 2) ? "Failed" : "Completed");
    case CUSTOMER:
        return vk_is("CustomerId", print("customer-%06llu", tn_rng_below(rng, 100000)));
    case REGION:
        return vk_is("Region", regions[tn_rng_below(rng, 10)]);
    case AMOUNT:
        v = vk_i64((int64_t)tn_rng_below(rng, 1000));
        return vk_leaf(TN_VIS_EQ, "Amount", TN_ATTR_INT, 1, &v);
    case EXPRESS:
    case NOT_EXPRESS:
        v = vk_bool(what == EXPRESS);
        return vk_leaf(TN_VIS_EQ, "Express", TN_ATTR_BOOL, 1, &v);
    case WORKFLOW_TIME:
        v = vk_i64(VK_T0 + (int64_t)tn_rng_below(rng, 29) * DAY);
        return vk_leaf(TN_VIS_GE, "StartTime", TN_ATTR_DATETIME, 1, &v);
    default:
        v = vk_i64(VK_T0 + (int64_t)tn_rng_below(rng, 29) * DAY);
        return vk_leaf(TN_VIS_GT, "CloseTime", TN_ATTR_DATETIME, 1, &v);
    }
}

static const struct {
    const char *name;
    bool count;
    int with[3]; /* -1: none */
    const char *by;
    uint32_t by_type;
    bool page; /* the tenth page too */
} asked[] = {
    {"list everything", false, {-1, -1, -1}, NULL, 0, true},
    {"list a type", false, {TYPE, -1, -1}, NULL, 0, true},
    {"list a status", false, {STATUS, -1, -1}, NULL, 0, true},
    {"list a type and status", false, {TYPE, STATUS, -1}, NULL, 0, false},
    {"list closed after", false, {CLOSED_AFTER, -1, -1}, NULL, 0, false},
    {"list a rare keyword (10 of 1M)", false, {CUSTOMER, -1, -1}, NULL, 0, false},
    {"list an int (1,000 of 1M)", false, {AMOUNT, -1, -1}, NULL, 0, false},
    {"list a common keyword (100,000)", false, {REGION, -1, -1}, NULL, 0, true},
    {"list a bool (50,000)", false, {EXPRESS, -1, -1}, NULL, 0, false},
    {"list type, common keyword, int", false, {TYPE, REGION, AMOUNT}, NULL, 0, false},
    {"count everything", true, {-1, -1, -1}, NULL, 0, false},
    {"count a type", true, {TYPE, -1, -1}, NULL, 0, false},
    {"count a type and status", true, {TYPE, STATUS, -1}, NULL, 0, false},
    {"count a type closed after", true, {TYPE, CLOSED_AFTER, -1}, NULL, 0, false},
    {"count a rare keyword", true, {CUSTOMER, -1, -1}, NULL, 0, false},
    {"count an int", true, {AMOUNT, -1, -1}, NULL, 0, false},
    {"count a bool (50,000)", true, {EXPRESS, -1, -1}, NULL, 0, false},
    {"count a common keyword (100,000)", true, {REGION, -1, -1}, NULL, 0, false},
    {"count type and common keyword", true, {TYPE, REGION, -1}, NULL, 0, false},
    {"count common keyword, closed after", true, {REGION, CLOSED_AFTER, -1}, NULL, 0, false},
    {"count common keyword and a bool (95,000)", true, {REGION, NOT_EXPRESS, -1}, NULL, 0, false},
    {"count by status", true, {-1, -1, -1}, "ExecutionStatus", KEYWORD, false},
    {"count by type", true, {-1, -1, -1}, "WorkflowType", KEYWORD, false},
    {"count a type by status", true, {TYPE, -1, -1}, "ExecutionStatus", KEYWORD, false},
    {"count an int by status", true, {AMOUNT, -1, -1}, "ExecutionStatus", KEYWORD, false},
    {"count a bool by status", true, {EXPRESS, -1, -1}, "ExecutionStatus", KEYWORD, false},
    {"count a common keyword by status", true, {REGION, -1, -1}, "ExecutionStatus", KEYWORD, false},
    {"count a bool (950,000)", true, {NOT_EXPRESS, -1, -1}, NULL, 0, false},
    {"scan: count by common keyword", true, {-1, -1, -1}, "Region", KEYWORD, false},
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double ask(size_t at, uint64_t *out_found)
{
    tn_vis_node nodes[5];
    size_t n = 0, conditions = 0;
    for (size_t i = 0; i < 3; i++)
        if (asked[at].with[i] >= 0)
            nodes[n++] = condition(asked[at].with[i]), conditions++;
    nodes[n++] = vk_leaf(TN_VIS_IS_NULL, "TemporalNamespaceDivision", KEYWORD, 0, NULL);
    if (conditions)
        nodes[n++] = vk_logic(TN_VIS_AND, (uint32_t)conditions + 1);
    tn_vis_query q = vk_query(nodes, n);
    tn_attr by = {.name = tn_str_from(asked[at].by ? asked[at].by : ""), .type = asked[at].by_type};
    q.ns_id = TN_STR(BENCH_NS);
    q.limit = 100;
    q.group_by = &by, q.n_group_by = asked[at].by ? 1 : 0;
    tn_vis_page page;
    double worst = 0;
    for (int i = 0; i < (asked[at].page ? 10 : 1); i++) {
        uint64_t began = tn_now_mono_ns();
        tn_status status = asked[at].count ? vk_count(&q, &page) : vk_list(&q, &page);
        double ms = (double)(tn_now_mono_ns() - began) / 1e6;
        KIT_EQUAL(status, TN_OK);
        worst = ms > worst ? ms : worst;
        *out_found = asked[at].count ? page.count : page.n_docs;
        q.page = page.next;
        if (!q.page.n)
            break;
    }
    return worst;
}

static void measure(size_t queries, const char *only)
{
    double *ms = tn_xcalloc(queries, sizeof *ms);
    printf("%-41s %10s %10s %10s %10s\n", "", "found", "median", "p99", "most");
    for (size_t at = 0; at < TN_COUNT_OF(asked); at++) {
        bool scan = strncmp(asked[at].name, "scan", 4) == 0;
        if (only && strcmp(asked[at].name, only) != 0)
            continue;
        size_t n = scan && queries > 10 ? 10 : queries;
        uint64_t found = 0;
        for (size_t i = 0; i < n; i++) {
            ms[i] = ask(at, &found);
            tn_arena_reset(kit_arena());
        }
        qsort(ms, n, sizeof *ms, compare);
        printf("%-41s %10llu %10.2f %10.2f %10.2f\n", asked[at].name, (unsigned long long)found,
               ms[n / 2], ms[n - 1 - n / 100], ms[n - 1]);
    }
    free(ms);
}

static uint64_t number(const char *text)
{
    int64_t v = 0;
    if (!text || !tn_parse_i64(tn_str_from(text), &v) || v < 1)
        kit_fail(__FILE__, __LINE__, "a number is missing");
    return (uint64_t)v;
}

int main(int argc, char **argv)
{
    bool only_queries = false;
    const char *only = NULL;
    uint64_t queries = 100;
    runs = 1000000;
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "-n") == 0)
            runs = number(argv[++i]);
        else if (strcmp(argv[i], "-q") == 0)
            queries = number(argv[++i]);
        else if (strcmp(argv[i], "--only-queries") == 0)
            only_queries = true;
        else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc)
            only_queries = true, only = argv[++i];
        else
            argc = 0;
    }
    if (argc < 3) {
        fprintf(stderr, "usage: visibility_store PLUGIN.so STANZA [-n RUNS] [-q QUERIES] "
                        "[--only-queries] [--only NAME]\n");
        return 2;
    }
    tn_log_configure(TN_LOG_NEVER, false);
    tn_rng_seed(&data_rng, only_queries ? 2 : 1);
    kit_configure(argv[1], argv[2]);
    vk_open();
    if (!only_queries)
        load();
    measure((size_t)queries, only);
    vk_close();
    return 0;
}
