/* SPDX-License-Identifier: MIT */
/* From the text of a dynamic config file to a table of values. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/dynprivate.h"

#define VALUE_BOOL(v) \
    { \
        .i = (v) \
    }
#define VALUE_INT(v) \
    { \
        .i = (v) \
    }
#define VALUE_DURATION(v) \
    { \
        .i = (v) \
    }
#define VALUE_MODE(v) \
    { \
        .i = (v) \
    }
#define VALUE_FLOAT(v) \
    { \
        .f = (v) \
    }

#define VALUE_TEXT(v) \
    { \
        .text = (v) \
    }

#define VALUE_MAP(v) VALUE_TEXT(v)

const tn_dyn_info tn_dyn_infos[TN_DYN_COUNT] = {
#define INFO(name, key, type, scope, fallback) \
    [TN_DYN_##name] = {key, TN_DYN_TYPE_##type, TN_DYN_##scope, VALUE_##type(fallback)},
    TN_DYN_KEYS(INFO)
#undef INFO
};

const char *tn_dyn_key_name(tn_dyn_key key) { return tn_dyn_infos[key].name; }

/* ---- warnings: each text once a process, 1,000 texts at most ---- */

#define WARNED_MAX 1000u
static uint64_t warned[WARNED_MAX];
static size_t warned_count;
static pthread_mutex_t warned_lock = PTHREAD_MUTEX_INITIALIZER;

static void warn(const tn_config *at, size_t *warnings, const char *text)
{
    char line[600];
    snprintf(line, sizeof line, "%s: %s", tn_config_path_of(at), text);
    uint64_t hash = tn_hash64(tn_blob_of_str(tn_str_from(line)));
    bool again = false;
    ++*warnings;
    pthread_mutex_lock(&warned_lock);
    for (size_t i = 0; i < warned_count && !again; i++)
        again = warned[i] == hash;
    if (!again && warned_count < WARNED_MAX)
        warned[warned_count++] = hash;
    pthread_mutex_unlock(&warned_lock);
    if (!again)
        TN_LOG(TN_LOG_WARN, "config", text, TN_LOG_Z("file", tn_config_file(at)),
               TN_LOG_U("line", tn_config_line(at)), TN_LOG_Z("key", tn_config_path_of(at)));
}

/* ---- values ---- */

static bool take_duration(tn_str text, int64_t *out)
{
    double number;
    tn_str head = {text.p, text.n ? text.n - 1 : 0};
    bool days = text.n && text.p[text.n - 1] == 'd' && tn_parse_f64(head, &number);
    if (!days && !tn_parse_f64(text, &number))
        return tn_parse_duration_ns(text, out) && *out >= 0;
    double ns = number * (days ? 86400e9 : 1e9);
    if (!(ns >= 0 && ns < 9.2e18))
        return false;
    *out = (int64_t)ns;
    return true;
}

static bool take_mode(tn_str text, int64_t *out)
{
    static const char *const words[] = {
        [TN_DYN_OFF] = "off", [TN_DYN_ON] = "on", [TN_DYN_DUAL] = "dual"};
    for (size_t i = 0; i < TN_COUNT_OF(words); i++) {
        if (!tn_str_caseeq(text, tn_str_from(words[i])))
            continue;
        *out = (int64_t)i;
        return true;
    }
    return false;
}

/* Readers may hold a text while its table is replaced: each different one is kept for good. */
static const char *intern(tn_str text)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct kept {
        struct kept *next;
        char text[];
    } * all;
    struct kept *k;

    pthread_mutex_lock(&lock);
    for (k = all; k && !tn_str_is(text, k->text);)
        k = k->next;
    if (!k) {
        k = tn_xcalloc(1, sizeof(*k) + text.n + 1);
        memcpy(k->text, text.p, text.n);
        k->next = all;
        all = k;
    }
    pthread_mutex_unlock(&lock);
    return k->text;
}

/* "!host:port" or "host:port" of {Pattern: ..., AllowInsecure: ...}; empty: it says nothing. */
static void put_rule(tn_buf *out, const tn_config *node)
{
    const tn_config *pattern = NULL;
    bool insecure = false;
    for (const tn_config *n = tn_config_first(node); n; n = tn_config_next(n)) {
        if (tn_str_caseeq(tn_config_key(n), TN_STR("pattern")))
            pattern = n;
        else if (tn_str_caseeq(tn_config_key(n), TN_STR("allowInsecure")))
            insecure = tn_str_caseeq(tn_config_scalar(n), TN_STR("true"));
    }
    if (tn_config_kind_of(pattern) != TN_CONFIG_SCALAR)
        return;
    tn_str text = tn_config_scalar(pattern);
    tn_buf_printf(out, "%s" TN_STR_FMT, insecure ? "!" : "", TN_STR_ARG(text));
}

static bool take_text(const tn_config *node, tn_dyn_value *out)
{
    const tn_config *item = node;
    tn_buf text = {0};
    bool ok = true;

    tn_buf_reserve(&text, 1);
    if (tn_config_kind_of(node) == TN_CONFIG_LIST)
        item = tn_config_first(node);
    for (; item && ok; item = item == node ? NULL : tn_config_next(item)) {
        tn_str s = tn_config_scalar(item);
        bool rule = item != node && tn_config_kind_of(item) == TN_CONFIG_MAP;
        ok = rule || tn_config_kind_of(item) == TN_CONFIG_SCALAR;
        if (text.n)
            tn_buf_put_u8(&text, ',');
        if (rule)
            put_rule(&text, item);
        else
            tn_buf_put(&text, s.p, s.n);
    }
    if (ok)
        out->text = intern(tn_str_of_blob(tn_buf_blob(&text)));
    tn_buf_done(&text);
    return ok;
}

static bool take_map(const tn_config *node, tn_dyn_value *out)
{
    tn_buf text = {0};
    bool ok = tn_config_kind_of(node) == TN_CONFIG_MAP;

    tn_buf_reserve(&text, 1);
    for (const tn_config *n = ok ? tn_config_first(node) : NULL; n && ok; n = tn_config_next(n)) {
        tn_str name = tn_config_key(n), value = tn_config_scalar(n);
        ok = tn_config_kind_of(n) == TN_CONFIG_SCALAR;
        if (text.n)
            tn_buf_put_u8(&text, ',');
        for (size_t i = 0; i < name.n; i++)
            tn_buf_put_u8(&text,
                          (uint8_t)(name.p[i] >= 'A' && name.p[i] <= 'Z' ? name.p[i] + ('a' - 'A')
                                                                         : name.p[i]));
        tn_buf_put_u8(&text, '=');
        tn_buf_put(&text, value.p, value.n);
    }
    if (ok)
        out->text = intern(tn_str_of_blob(tn_buf_blob(&text)));
    tn_buf_done(&text);
    return ok;
}

static bool take_value(const tn_dyn_info *info, const tn_config *node, tn_dyn_value *out)
{
    int32_t flag;
    if (info->type == TN_DYN_TYPE_TEXT)
        return take_text(node, out);
    if (info->type == TN_DYN_TYPE_MAP)
        return take_map(node, out);
    if (tn_config_kind_of(node) != TN_CONFIG_SCALAR)
        return false;
    tn_str text = tn_config_scalar(node);
    if (info->type == TN_DYN_TYPE_DURATION)
        return take_duration(text, &out->i);
    if (info->type == TN_DYN_TYPE_MODE)
        return take_mode(text, &out->i);
    if (tn_config_quoted(node))
        return false; /* a text, as the reference sees it */
    switch (info->type) {
    case TN_DYN_TYPE_BOOL:
        if (tn_config_bool(node, "", &flag, NULL) != TN_OK)
            return false;
        out->i = flag;
        return true;
    case TN_DYN_TYPE_INT:
        return tn_parse_i64(text, &out->i);
    case TN_DYN_TYPE_FLOAT:
        return tn_parse_f64(text, &out->f);
    case TN_DYN_TYPE_DURATION:
    case TN_DYN_TYPE_MODE:
    case TN_DYN_TYPE_TEXT:
    case TN_DYN_TYPE_MAP:
        break;
    }
    return false;
}

static const char *type_word(tn_dyn_type type)
{
    switch (type) {
    case TN_DYN_TYPE_BOOL:
        return "value has the wrong type (wants true or false), it is skipped";
    case TN_DYN_TYPE_INT:
        return "value has the wrong type (wants a whole number), it is skipped";
    case TN_DYN_TYPE_FLOAT:
        return "value has the wrong type (wants a number), it is skipped";
    case TN_DYN_TYPE_MODE:
        return "value is unknown (wants off, on or dual), it is skipped";
    case TN_DYN_TYPE_TEXT:
        return "value has the wrong type (wants a text or a list of texts), it is skipped";
    case TN_DYN_TYPE_MAP:
        return "value has the wrong type (wants a map of single values), it is skipped";
    case TN_DYN_TYPE_DURATION:
        break;
    }
    return "value has the wrong type (wants a duration such as 10s, or seconds), it is skipped";
}

/* ---- constraints ---- */

static bool take_task_type(const tn_config *node, int32_t *out)
{
    static const char *const words[] = {"workflow", "activity", "nexus"};
    tn_str text = tn_config_scalar(node);
    for (int32_t i = 0; i < 3; i++) {
        char digit = (char)('1' + i);
        if (tn_str_caseeq(text, tn_str_from(words[i])) || tn_str_eq(text, (tn_str){&digit, 1})) {
            *out = i + 1;
            return true;
        }
    }
    return false;
}

static const char *take_constraint(const tn_dyn_info *info, const tn_config *node,
                                   tn_dyn_entry *entry)
{
    tn_str name = tn_config_key(node);
    bool fits = false;
    if (tn_config_kind_of(node) != TN_CONFIG_SCALAR)
        return "constraint wants a single value, the entry is skipped";
    if (tn_str_caseeq(name, TN_STR("namespace"))) {
        fits = info->scope != TN_DYN_GLOBAL;
        entry->ns = tn_config_scalar(node);
    } else if (tn_str_caseeq(name, TN_STR("taskQueueName"))) {
        fits = info->scope == TN_DYN_TASK_QUEUE;
        entry->task_queue = tn_config_scalar(node);
    } else if (tn_str_caseeq(name, TN_STR("taskType")) ||
               tn_str_caseeq(name, TN_STR("taskQueueType"))) {
        fits = info->scope == TN_DYN_TASK_QUEUE;
        if (!take_task_type(node, &entry->task_type))
            return "taskType wants Workflow, Activity or Nexus, the entry is skipped";
    }
    return fits ? NULL : "this key has no such constraint, the entry is skipped";
}

/* The five combinations that are looked for; 0: one that is not. */
static uint32_t rank_of(const tn_dyn_entry *e)
{
    if (e->ns.n && e->task_queue.n)
        return e->task_type ? 5 : 4;
    if (e->task_type)
        return 0;
    return e->task_queue.n ? 3 : e->ns.n ? 2 : 1;
}

/* One "- value: ... constraints: ..." item; false: skipped. */
static bool take_entry(const tn_dyn_info *info, const tn_config *item, tn_dyn_entry *entry,
                       size_t *warnings)
{
    const tn_config *value = NULL, *constraints = NULL;
    for (const tn_config *n = tn_config_first(item); n; n = tn_config_next(n)) {
        if (tn_str_caseeq(tn_config_key(n), TN_STR("value")))
            value = n;
        else if (tn_str_caseeq(tn_config_key(n), TN_STR("constraints")))
            constraints = n;
        else
            warn(n, warnings, "wants only value and constraints here");
    }
    if (!value || !take_value(info, value, &entry->value)) {
        warn(value ? value : item, warnings,
             value ? type_word(info->type) : "has no value, it is skipped");
        return false;
    }
    if (tn_config_kind_of(constraints) != TN_CONFIG_MAP &&
        tn_config_kind_of(constraints) != TN_CONFIG_NULL) {
        warn(constraints, warnings, "constraints want a map, the entry is skipped");
        return false;
    }
    for (const tn_config *n = tn_config_first(constraints); n; n = tn_config_next(n)) {
        const char *why = take_constraint(info, n, entry);
        if (why) {
            warn(n, warnings, why);
            return false;
        }
    }
    entry->rank = rank_of(entry);
    if (!entry->rank)
        warn(constraints, warnings,
             "taskType counts only together with namespace and taskQueueName, it is skipped");
    return entry->rank != 0;
}

/* ---- tables ---- */

tn_dyn_table *tn_dyn_table_create(void)
{
    tn_dyn_table *table = tn_xcalloc(1, sizeof *table);
    table->arena = tn_arena_create(0);
    for (size_t i = 0; i < TN_DYN_COUNT; i++)
        table->rows[i].plain = tn_dyn_infos[i].fallback;
    return table;
}

void tn_dyn_table_destroy(tn_dyn_table *table)
{
    if (!table)
        return;
    tn_arena_destroy(table->arena);
    free(table);
}

static tn_dyn_key find_key(tn_str name)
{
    size_t i = 0;
    while (i < TN_DYN_COUNT && !tn_str_caseeq(name, tn_str_from(tn_dyn_infos[i].name)))
        i++;
    return (tn_dyn_key)i;
}

static bool is_foreign(tn_str name)
{
    for (size_t i = 0; i < tn_dyn_foreign_count; i++) {
        if (tn_str_caseeq(name, tn_str_from(tn_dyn_foreign_keys[i])))
            return true;
    }
    return false;
}

static bool is_idle(tn_dyn_key key)
{
    for (size_t i = 0; i < tn_dyn_idle_count; i++) {
        if (tn_dyn_idle_keys[i] == key)
            return true;
    }
    return false;
}

static const char *nearest_key(tn_str name)
{
    const char *words[TN_DYN_COUNT];
    for (size_t i = 0; i < TN_DYN_COUNT; i++)
        words[i] = tn_dyn_infos[i].name;
    return tn_config_nearest(name, words, TN_DYN_COUNT);
}

static void fill_row(tn_dyn_table *table, tn_dyn_key key, const tn_config *node, size_t *warnings)
{
    const tn_dyn_info *info = &tn_dyn_infos[key];
    tn_dyn_row *row = &table->rows[key];
    bool plain_seen = false;
    if (tn_config_kind_of(node) != TN_CONFIG_LIST) {
        if (tn_config_kind_of(node) != TN_CONFIG_NULL)
            warn(node, warnings, "wants a list of values, such as \"- value: 1\"; it is skipped");
        return;
    }
    tn_dyn_entry *entries = TN_NEW_ARRAY(table->arena, tn_dyn_entry, tn_config_count(node, ""));
    size_t count = 0;
    for (const tn_config *item = tn_config_first(node); item; item = tn_config_next(item)) {
        tn_dyn_entry e = {0};
        if (!take_entry(info, item, &e, warnings))
            continue;
        if (e.rank == 1) { /* of several the first counts */
            row->plain = plain_seen ? row->plain : e.value;
            plain_seen = true;
            continue;
        }
        e.ns = tn_arena_str(table->arena, e.ns);
        e.task_queue = tn_arena_str(table->arena, e.task_queue);
        size_t at = count++; /* sorted in, after those of the same rank */
        for (; at && entries[at - 1].rank < e.rank; at--)
            entries[at] = entries[at - 1];
        entries[at] = e;
    }
    row->entries = entries;
    row->count = count;
}

void tn_dyn_table_fill(tn_dyn_table *table, const tn_config *root, size_t *warnings)
{
    if (tn_config_kind_of(root) != TN_CONFIG_MAP) {
        warn(root, warnings, "wants a map of keys to lists of values");
        return;
    }
    for (const tn_config *node = tn_config_first(root); node; node = tn_config_next(node)) {
        tn_dyn_key key = find_key(tn_config_key(node));
        char text[200];
        if (key != TN_DYN_COUNT) {
            if (is_idle(key))
                warn(node, warnings, "this server does not obey the key yet, it has no effect");
            fill_row(table, key, node, warnings);
        } else if (is_foreign(tn_config_key(node))) {
            warn(node, warnings, tn_dyn_foreign_why(tn_config_key(node)));
        } else {
            const char *near = nearest_key(tn_config_key(node));
            snprintf(text, sizeof text, "unknown key%s%s%s", near ? " (did you mean \"" : "",
                     near ? near : "", near ? "\"?)" : "");
            warn(node, warnings, text);
        }
    }
}

bool tn_dyn_table_override(tn_dyn_table *table, const char *text, tn_config_problems *problems)
{
    char what[400];
    const char *equals = strchr(text, '=');
    tn_str name = {text, equals ? (size_t)(equals - text) : strlen(text)};
    tn_dyn_key key = find_key(name);
    tn_config_tree *tree = NULL;
    bool ok = false;
    if (!equals) {
        snprintf(what, sizeof what, "--dynamic-config-value %.200s: wants KEY=VALUE", text);
        tn_config_problems_add(problems, what);
        return false;
    }
    if (key == TN_DYN_COUNT ? is_foreign(name) : is_idle(key)) {
        TN_LOG(TN_LOG_WARN, "config", tn_dyn_foreign_why(name), TN_LOG_S("key", name));
        if (key == TN_DYN_COUNT)
            return true;
    }
    if (key == TN_DYN_COUNT) {
        const char *near = nearest_key(name);
        snprintf(what, sizeof what, "--dynamic-config-value %.200s: unknown key%s%s%s", text,
                 near ? " (did you mean \"" : "", near ? near : "", near ? "\"?)" : "");
        tn_config_problems_add(problems, what);
        return false;
    }
    /* JSON values are YAML. */
    if (tn_config_parse("--dynamic-config-value", tn_blob_of_str(tn_str_from(equals + 1)), problems,
                        &tree) != TN_OK)
        return false;
    tn_dyn_row *row = &table->rows[key];
    ok = take_value(&tn_dyn_infos[key], tn_config_root(tree), &row->plain);
    if (ok) {
        row->entries = NULL;
        row->count = 0;
    } else {
        snprintf(what, sizeof what, "--dynamic-config-value %.200s: %s", text,
                 type_word(tn_dyn_infos[key].type));
        tn_config_problems_add(problems, what);
    }
    tn_config_tree_destroy(tree);
    return ok;
}
