/* SPDX-License-Identifier: MIT */
/* Search attributes in payloads: what is taken, what is said of what isn't, how upserts merge; runs to
 * documents and back to answers; page tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "proto/proto.h"
#include "temporal/api/common/v1/message.pb-c.h"
#include "temporal/api/workflow/v1/message.pb-c.h"
#include "temporal/api/workflowservice/v1/request_response.pb-c.h"
#include "visibility/payload.h"

static const tn_search_attr custom[] = {
    {{"CB", 2}, TN_ATTR_BOOL}, {{"CD", 2}, TN_ATTR_DOUBLE},  {{"CDT", 3}, TN_ATTR_DATETIME},
    {{"CI", 2}, TN_ATTR_INT},  {{"CK", 2}, TN_ATTR_KEYWORD}, {{"CL", 2}, TN_ATTR_KEYWORD_LIST},
    {{"CT", 2}, TN_ATTR_TEXT},
};
static const tn_namespace ns = {
    .name = {"test", 4},
    .id = {"11111111-1111-4111-8111-111111111111", 36},
    .custom_attrs = custom,
    .n_custom_attrs = TN_COUNT_OF(custom),
};

static int make_arena(void **state)
{
    *state = tn_arena_create(0);
    return 0;
}

static int drop_arena(void **state)
{
    tn_arena_destroy(*state);
    return 0;
}

static void put_pair(tn_buf *buf, uint32_t field, const char *key, tn_blob value)
{
    tn_buf entry = {0};
    tn_proto_put_bytes(&entry, 1, tn_blob_from(key, strlen(key)));
    tn_proto_put_bytes(&entry, 2, value);
    tn_proto_put_bytes(buf, field, tn_buf_blob(&entry));
    tn_buf_done(&entry);
}

static tn_blob payload_as(tn_arena *arena, const char *encoding, const char *type, const char *data)
{
    tn_buf buf = {0};
    put_pair(&buf, 1, "encoding", tn_blob_from(encoding, strlen(encoding)));
    if (type)
        put_pair(&buf, 1, "type", tn_blob_from(type, strlen(type)));
    tn_proto_put_bytes(&buf, 2, tn_blob_from(data, strlen(data)));
    tn_blob out = tn_arena_blob(arena, tn_buf_blob(&buf));
    tn_buf_done(&buf);
    return out;
}

static tn_blob json(tn_arena *arena, const char *data)
{
    return payload_as(arena, "json/plain", NULL, data);
}

typedef struct named {
    const char *name;
    tn_blob payload;
} named;

static tn_blob attrs_of(tn_arena *arena, const named *list, size_t count)
{
    tn_buf buf = {0};
    for (size_t i = 0; i < count; i++)
        put_pair(&buf, 1, list[i].name, list[i].payload);
    tn_blob out = tn_arena_blob(arena, tn_buf_blob(&buf));
    tn_buf_done(&buf);
    return out;
}

static tn_blob one(tn_arena *arena, const char *name, const char *data)
{
    return attrs_of(arena, &(named){name, json(arena, data)}, 1);
}

static void says(tn_arena *arena, const tn_fault *fault, const char *text)
{
    if (!text) {
        if (fault)
            fail_msg(TN_STR_FMT, TN_STR_ARG(fault->message));
        return;
    }
    assert_non_null(fault);
    assert_int_equal(fault->code, TN_GRPC_INVALID_ARGUMENT);
    assert_string_equal(tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(fault->message)), text);
}

static void validates(tn_arena *arena, const char *name, const char *data, const char *text)
{
    says(arena, tn_search_attrs_validate(arena, &ns, one(arena, name, data), NULL), text);
}

static void test_validation(void **state)
{
    tn_arena *a = *state;
    says(a, tn_search_attrs_validate(a, &ns, (tn_blob){NULL, 0}, NULL), NULL);
    validates(a, "CK", "\"x\"", NULL);
    validates(a, "CK", "[\"x\"]", NULL);
    validates(a, "CK", "null", NULL);
    validates(a, "CK", "[]", NULL);
    validates(a, "CI", "-9223372036854775808", NULL);
    validates(a, "CD", "1.5e3", NULL);
    validates(a, "CD", "3", NULL);
    validates(a, "CB", " true ", NULL);
    validates(a, "CDT", "\"2026-01-02T03:04:05.678Z\"", NULL);
    validates(a, "CL", "[\"a\",\"b\"]", NULL);
    validates(a, "CT", "\"some text\"", NULL);
    validates(a, "BuildIds", "[\"x\"]", NULL);
    validates(a, "TemporalNamespaceDivision", "\"x\"", NULL);

    validates(a, "Nope", "\"x\"",
              "Namespace test has no mapping defined for search attribute Nope");
    validates(a, "TemporalNope", "\"x\"", "search attribute TemporalNope is not defined");
    validates(a, "WorkflowId", "\"x\"", "WorkflowId attribute can't be set in SearchAttributes");
    validates(a, "TemporalWorkerDeployment", "\"x\"",
              "TemporalWorkerDeployment attribute can't be set in SearchAttributes");
    validates(a, "CI", "\"x\"", "invalid value for search attribute CI of type Int: x");
    validates(a, "CI", "1.5", "invalid value for search attribute CI of type Int: 1.5");
    validates(a, "CI", "9223372036854775808",
              "invalid value for search attribute CI of type Int: 9223372036854775808");
    validates(a, "CK", "5", "invalid value for search attribute CK of type Keyword: 5");
    validates(a, "CK", "[\"x\",\"y\"]",
              "invalid value for search attribute CK of type Keyword: [x y]");
    validates(a, "CB", "\"true\"", "invalid value for search attribute CB of type Bool: true");
    validates(a, "CDT", "\"yesterday\"",
              "invalid value for search attribute CDT of type Datetime: yesterday");
    validates(a, "CL", "\"a\"", "invalid value for search attribute CL of type KeywordList: a");
    validates(a, "CL", "[1]", "invalid value for search attribute CL of type KeywordList: [1]");
    validates(a, "CK", "{\"x\":1}",
              "invalid value for search attribute CK of type Keyword: value from "
              "<encoding:\"json/plain\" 7 "
              "bytes>");
    says(a, tn_search_attrs_validate(a, &ns, tn_blob_from("\x0a\x7f", 2), NULL),
         "search attributes are damaged");
}

static void test_limits(void **state)
{
    tn_arena *a = *state;
    char text[3100];
    memset(text, 'x', sizeof(text));
    text[0] = '"', text[2049] = '"', text[2050] = '\0';
    validates(a, "CK", text, "search attribute CK value size 2050 exceeds size limit 2048");
    text[2047] = '"', text[2048] = '\0';
    validates(a, "CK", text, NULL);
    named many[101];
    for (size_t i = 0; i < 101; i++)
        many[i] = (named){"CK", json(a, "\"x\"")};
    says(a, tn_search_attrs_validate(a, &ns, attrs_of(a, many, 101), NULL),
         "number of search attributes 101 exceeds limit 100");
    says(a, tn_search_attrs_validate(a, &ns, attrs_of(a, many, 100), NULL), NULL);
    tn_search_attr_limits limits = {.total_bytes_max = 20};
    tn_blob packed = one(a, "CK", "\"x\"");
    char want[100];
    snprintf(want, sizeof(want), "total size of search attributes %zu exceeds size limit 20",
             packed.n);
    says(a, tn_search_attrs_validate(a, &ns, packed, &limits), want);
}

static const char *entry_text(tn_arena *a, tn_blob packed, const char *name, const char **out_type)
{
    tn_vis_entry *entries;
    size_t count;
    assert_int_equal(tn_vis_entries_read(a, packed, &entries, &count), TN_OK);
    for (size_t i = 0; i < count; i++) {
        if (!tn_str_is(entries[i].name, name))
            continue;
        tn_vis_payload payload;
        assert_int_equal(tn_vis_payload_read(entries[i].payload, &payload), TN_OK);
        *out_type = tn_arena_printf(a, TN_STR_FMT, TN_STR_ARG(payload.type));
        return tn_arena_printf(a, TN_STR_FMT, TN_STR_ARG(payload.data));
    }
    return NULL;
}

static void test_types(void **state)
{
    static const struct {
        const char *name, *type, *want; /* what the payload says, what it says then */
    } rows[] = {{"CK", NULL, "Keyword"},      {"CL", NULL, "KeywordList"}, {"CI", "Int", "Int"},
                {"CT", "Keyword", "Keyword"}, {"Unknown", NULL, NULL},     {"CB", NULL, "Bool"}};
    tn_arena *a = *state;
    Temporal__Api__Common__V1__SearchAttributes *attrs;
    tn_buf buf = {0};

    for (size_t i = 0; i < TN_COUNT_OF(rows); i++)
        put_pair(&buf, 1, rows[i].name, payload_as(a, "json/plain", rows[i].type, "1"));
    assert_int_equal(TN_PROTO_UNPACK(temporal__api__common__v1__search_attributes,
                                     tn_buf_blob(&buf), a, &attrs, NULL),
                     TN_OK);
    tn_buf_done(&buf);
    tn_search_attrs_add_types(a, &ns, attrs);
    tn_search_attrs_add_types(a, &ns, attrs); /* once is enough */
    tn_search_attrs_add_types(a, &ns, NULL);
    for (size_t i = 0; i < TN_COUNT_OF(rows); i++) {
        const Temporal__Api__Common__V1__Payload *payload = attrs->indexed_fields[i]->value;

        assert_int_equal(payload->n_metadata, rows[i].want ? 2 : 1);
        assert_string_equal(payload->metadata[0]->key, "encoding");
        if (!rows[i].want)
            continue;
        assert_string_equal(payload->metadata[1]->key, "type");
        assert_int_equal(payload->metadata[1]->value.len, strlen(rows[i].want));
        assert_memory_equal(payload->metadata[1]->value.data, rows[i].want, strlen(rows[i].want));
    }
}

static void test_merging(void **state)
{
    tn_arena *a = *state;
    const char *type;
    const named base[] = {{"CK", json(a, "\"old\"")},
                          {"CI", json(a, "1")},
                          {"CB", json(a, "true")},
                          {"Unknown", json(a, "1")}};
    const named upsert[] = {{"CK", json(a, "\"mid\"")},
                            {"CK", json(a, "\"new\"")},
                            {"CI", payload_as(a, "binary/null", NULL, "")},
                            {"CB", json(a, "[]")},
                            {"CL", payload_as(a, "json/plain", "KeywordList", "[\"x\"]")}};
    tn_blob out;
    assert_int_equal(
        tn_search_attrs_merge(a, &ns, attrs_of(a, base, 4), attrs_of(a, upsert, 5), &out), TN_OK);
    assert_string_equal(entry_text(a, out, "CK", &type), "\"new\"");
    assert_string_equal(type, "Keyword");
    assert_string_equal(entry_text(a, out, "CL", &type), "[\"x\"]");
    assert_string_equal(type, "KeywordList");
    assert_null(entry_text(a, out, "CI", &type));
    assert_null(entry_text(a, out, "CB", &type));
    assert_string_equal(entry_text(a, out, "Unknown", &type), "1");
    assert_string_equal(type, "");
    /* What comes out is a message like any other. */
    Temporal__Api__Common__V1__SearchAttributes *message;
    tn_error err;
    assert_int_equal(
        TN_PROTO_UNPACK(temporal__api__common__v1__search_attributes, out, a, &message, &err),
        TN_OK);
    assert_int_equal(message->n_indexed_fields, 3);
    assert_int_equal(tn_search_attrs_merge(a, &ns, tn_blob_from("\xff", 1), out, &out),
                     TN_EINVALID);
}

static void shows(tn_arena *a, uint32_t type, const char *data, const char *back)
{
    tn_blob value;
    bool null;
    assert_int_equal(tn_search_attr_from_payload(a, type, json(a, data), &value, &null), TN_OK);
    assert_false(null);
    tn_attr attr = {.name = TN_STR("A"), .type = type, .value = value};
    Temporal__Api__Common__V1__Payload *payload = tn_search_attr_to_payload(a, &attr);
    assert_non_null(payload);
    assert_string_equal(
        tn_arena_printf(a, "%.*s", (int)payload->data.len, (char *)payload->data.data), back);
    assert_int_equal(payload->n_metadata, 2);
    assert_string_equal(payload->metadata[0]->key, "encoding");
    assert_string_equal(payload->metadata[1]->key, "type");
    assert_memory_equal(payload->metadata[1]->value.data, tn_search_attr_type_name(type),
                        payload->metadata[1]->value.len);
}

static void test_round_trips(void **state)
{
    tn_arena *a = *state;
    shows(a, TN_ATTR_KEYWORD, "\"x\"", "\"x\"");
    shows(a, TN_ATTR_KEYWORD, "\"\"", "\"\"");
    shows(a, TN_ATTR_KEYWORD, "\"a\\\"b\\\\c\\u0041\\n\\ud83d\\ude00\\ud83d\"",
          "\"a\\\"b\\\\cA\\u000a\xf0\x9f\x98\x80\xef\xbf\xbd\"");
    shows(a, TN_ATTR_INT, "-5", "-5");
    shows(a, TN_ATTR_DOUBLE, "0.1", "0.1");
    shows(a, TN_ATTR_DOUBLE, "1e300", "1e+300");
    shows(a, TN_ATTR_DOUBLE, "3", "3");
    shows(a, TN_ATTR_BOOL, "false", "false");
    shows(a, TN_ATTR_DATETIME, "\"2026-01-02T03:04:05.678+01:00\"", "\"2026-01-02T02:04:05.678Z\"");
    shows(a, TN_ATTR_KEYWORD_LIST, "[\"a\",\"\",\"c\"]", "[\"a\",\"\",\"c\"]");
    shows(a, TN_ATTR_TEXT, "\"some words\"", "\"some words\"");
    static const char *const bad[] = {"",     "x",     "\"",  "\"\\x\"", "01",       "1.",
                                      "[1,]", "[[1]]", "tru", "1 2",     "\"a\x01\""};
    for (size_t i = 0; i < TN_COUNT_OF(bad); i++) {
        tn_json out;
        assert_int_equal(tn_json_read(a, tn_str_from(bad[i]), &out), TN_EINVALID);
    }
}

static const tn_attr *find(const tn_vis_doc *doc, const char *name)
{
    for (size_t i = 0; i < doc->n_attrs; i++)
        if (tn_str_is(doc->attrs[i].name, name))
            return &doc->attrs[i];
    return NULL;
}

static tn_vis_run sample_run(tn_arena *a, int32_t status, int64_t close_ns)
{
    const named attrs[] = {{"CK", json(a, "\"v\"")},
                           {"CI", json(a, "\"bad\"")},
                           {"Gone", json(a, "1")},
                           {"Own", payload_as(a, "json/plain", "Int", "7")},
                           {"WorkflowType", json(a, "\"no\"")}};
    tn_buf memo = {0};
    put_pair(&memo, 1, "note", json(a, "\"m\""));
    tn_vis_run run = {
        .ns_id = ns.id,
        .workflow_id = TN_STR("wf"),
        .run_id = TN_STR("run"),
        .type = TN_STR("Type"),
        .task_queue = TN_STR("queue"),
        .status = status,
        .start_ns = 1000,
        .execution_ns = 1500,
        .close_ns = close_ns,
        .history_length = 11,
        .history_size_bytes = 222,
        .state_transition_count = 5,
        .search_attributes = attrs_of(a, attrs, 5),
        .version = 42,
        .memo = tn_arena_blob(a, tn_buf_blob(&memo)),
    };
    tn_buf_done(&memo);
    return run;
}

static void test_documents(void **state)
{
    tn_arena *a = *state;
    tn_vis_run run = sample_run(a, 2, 4000);
    run.parent_workflow_id = TN_STR("parent"), run.parent_run_id = TN_STR("parent-run");
    tn_vis_doc doc;
    assert_int_equal(tn_vis_doc_from_run(a, &ns, &run, &doc), TN_OK);
    assert_int_equal(doc.version, 42);
    assert_true(tn_str_is(tn_str_of_blob(find(&doc, "ExecutionStatus")->value), "Completed"));
    assert_true(tn_str_is(tn_str_of_blob(find(&doc, "WorkflowType")->value), "Type"));
    assert_true(tn_str_is(tn_str_of_blob(find(&doc, "RootWorkflowId")->value), "wf"));
    assert_int_equal(tn_get_u64be(find(&doc, "ExecutionDuration")->value.p), 2500);
    assert_true(tn_str_is(tn_str_of_blob(find(&doc, "CK")->value), "v"));
    assert_null(find(&doc, "CI")); /* does not decode */
    assert_null(find(&doc, "Gone"));
    assert_int_equal(tn_get_u64be(find(&doc, "Own")->value.p), 7); /* the payload says its type */

    struct Temporal__Api__Workflow__V1__WorkflowExecutionInfo *info = tn_vis_doc_to_info(a, &doc),
                                                              *read;
    assert_non_null(info);
    tn_blob packed;
    tn_error err;
    assert_int_equal(tn_proto_pack(&info->base, a, &packed), TN_OK);
    assert_int_equal(TN_PROTO_UNPACK(temporal__api__workflow__v1__workflow_execution_info, packed,
                                     a, &read, &err),
                     TN_OK);
    assert_string_equal(read->execution->workflow_id, "wf");
    assert_string_equal(read->execution->run_id, "run");
    assert_string_equal(read->type->name, "Type");
    assert_string_equal(read->task_queue, "queue");
    assert_int_equal(read->status, 2);
    assert_int_equal(read->start_time->nanos, 1000);
    assert_int_equal(read->execution_time->nanos, 1500);
    assert_int_equal(read->close_time->nanos, 4000);
    assert_int_equal(read->execution_duration->nanos, 2500);
    assert_int_equal(read->history_length, 11);
    assert_int_equal(read->history_size_bytes, 222);
    assert_int_equal(read->state_transition_count, 5);
    assert_string_equal(read->parent_execution->workflow_id, "parent");
    assert_string_equal(read->root_execution->run_id, "run");
    assert_int_equal(read->memo->n_fields, 1);
    assert_string_equal(read->memo->fields[0]->key, "note");
    assert_int_equal(read->search_attributes->n_indexed_fields, 2);
}

static void test_open_documents(void **state)
{
    tn_arena *a = *state;
    tn_vis_run run = sample_run(a, 1, 0);
    run.memo = (tn_blob){NULL, 0};
    run.search_attributes = (tn_blob){NULL, 0};
    tn_vis_doc doc;
    assert_int_equal(tn_vis_doc_from_run(a, &ns, &run, &doc), TN_OK);
    assert_null(find(&doc, "CloseTime"));
    assert_null(find(&doc, "HistoryLength"));
    struct Temporal__Api__Workflow__V1__WorkflowExecutionInfo *info = tn_vis_doc_to_info(a, &doc),
                                                              *read;
    tn_blob packed;
    tn_error err;
    assert_non_null(info);
    assert_int_equal(tn_proto_pack(&info->base, a, &packed), TN_OK);
    assert_int_equal(TN_PROTO_UNPACK(temporal__api__workflow__v1__workflow_execution_info, packed,
                                     a, &read, &err),
                     TN_OK);
    assert_null(read->close_time);
    assert_null(read->execution_duration);
    assert_null(read->parent_execution);
    assert_int_equal(read->history_length, 0);
    assert_non_null(read->memo);
    assert_non_null(read->search_attributes);
    for (size_t limit = 2048; limit < 12000; limit += 512) { /* a full arena is an answer too */
        tn_arena *small = tn_arena_create(limit);
        tn_vis_doc ignored;
        if (tn_vis_doc_from_run(small, &ns, &run, &ignored) == TN_OK)
            (void)tn_vis_doc_to_info(small, &ignored);
        tn_arena_destroy(small);
    }
}

static void test_groups(void **state)
{
    tn_arena *a = *state;
    const tn_attr values[] = {{.name = TN_STR("ExecutionStatus"),
                               .type = TN_ATTR_KEYWORD,
                               .value = {(const uint8_t *)"Failed", 6}},
                              {.name = TN_STR("ExecutionStatus"), .type = TN_ATTR_KEYWORD}};
    const tn_vis_group groups[] = {{&values[0], 3}, {&values[1], 4}};
    const tn_vis_page page = {
        .struct_size = sizeof(page), .groups = groups, .n_groups = 2, .count = 7};
    Temporal__Api__Workflowservice__V1__CountWorkflowExecutionsResponse__AggregationGroup **out;
    size_t count;
    assert_int_equal(tn_vis_groups_to_api(a, &page, &out, &count), TN_OK);
    assert_int_equal(count, 2);
    assert_int_equal(out[0]->count, 3);
    assert_memory_equal(out[0]->group_values[0]->data.data, "\"Failed\"", 8);
    assert_memory_equal(out[1]->group_values[0]->metadata[0]->value.data, "binary/null", 11);
}

static void test_page_tokens(void **state)
{
    tn_arena *a = *state;
    const uint8_t key[16] = {1, 2, 3};
    const tn_vis_order order = {.name = TN_STR("CI"), .type = TN_ATTR_INT, .descending = 1};
    tn_vis_query q = {.struct_size = sizeof(q), .ns_id = ns.id}, other = q, sorted = q;
    other.ns_id = TN_STR("22222222-1111-4111-8111-111111111111");
    sorted.order = &order, sorted.n_order = 1;
    tn_vis_page_key(key);
    says(a, tn_vis_page_open(a, (tn_blob){NULL, 0}, &q), NULL);
    assert_int_equal(q.page.n, 0);
    assert_int_equal(tn_vis_page_seal(a, &q, (tn_blob){NULL, 0}).n, 0);
    tn_blob token = tn_vis_page_seal(a, &q, tn_blob_from("position", 8));
    says(a, tn_vis_page_open(a, token, &q), NULL);
    assert_true(tn_blob_eq(q.page, tn_blob_from("position", 8)));
    says(a, tn_vis_page_open(a, token, &other), "Invalid NextPageToken.");
    says(a, tn_vis_page_open(a, token, &sorted), "Invalid NextPageToken.");
    for (size_t i = 0; i < token.n; i++) {
        tn_blob broken = tn_arena_blob(a, token);
        ((uint8_t *)(uintptr_t)broken.p)[i] ^= 1;
        says(a, tn_vis_page_open(a, broken, &q), "Invalid NextPageToken.");
        says(a, tn_vis_page_open(a, tn_blob_from(token.p, i), &q),
             i ? "Invalid NextPageToken." : NULL);
    }
}

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(tn_vis_status_parse(TN_STR("ContinuedAsNew")), 6);
    assert_int_equal(tn_vis_status_parse(TN_STR("WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW")), 6);
    assert_int_equal(tn_vis_status_parse(TN_STR("continuedasnew")), 0);
    assert_string_equal(tn_vis_status_name(7), "TimedOut");
    assert_null(tn_vis_status_name(9));
    assert_null(tn_vis_status_name(-1));
    assert_int_equal(tn_search_attr_type_parse(TN_STR("KeywordList")), TN_ATTR_KEYWORD_LIST);
    assert_int_equal(tn_search_attr_type_parse(TN_STR("INDEXED_VALUE_TYPE_TEXT")), TN_ATTR_TEXT);
    assert_int_equal(tn_search_attr_type_parse(TN_STR("")), 0);
    assert_true(tn_search_attr_name_reserved(TN_STR("WorkflowId")));
    assert_true(tn_search_attr_name_reserved(TN_STR("TemporalAnything")));
    assert_true(tn_search_attr_name_reserved(TN_STR("NamespaceId")));
    assert_false(tn_search_attr_name_reserved(TN_STR("ScheduleId")));
    size_t count;
    const tn_attr_type_row *table = tn_search_attr_system_table(&count);
    for (size_t i = 0; i < count; i++) { /* each is found, so the table is sorted */
        assert_int_equal(tn_search_attr_type(NULL, tn_str_from(table[i].name)), table[i].type);
        assert_true(!table[i].settable || !tn_search_attr_is_system(tn_str_from(table[i].name)));
    }
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, make_arena, drop_arena)
    const struct CMUnitTest cases[] = {
        CASE(test_validation),  CASE(test_limits),      CASE(test_merging),
        CASE(test_round_trips), CASE(test_documents),   CASE(test_open_documents),
        CASE(test_groups),      CASE(test_page_tokens), CASE(test_names),
        CASE(test_types),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
