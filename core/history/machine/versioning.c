/* SPDX-License-Identifier: MIT */
/* A run and the versions of its workers: pinned, auto-upgrade, overridden, in transition.  The parts that events tell are
 * folded from them; transitions and what the worker was told are extras. */
#include "history/machine/versioning.h"

#include <string.h>

#include "history/machine/priv.h"
#include "proto/proto.h"

enum { OVERRIDE_NONE, OVERRIDE_PINNED, OVERRIDE_AUTO, OVERRIDE_ONE_TIME };
#define USE_RAMPING_VERSION 2 /* ContinueAsNewVersioningBehavior */

typedef struct own_version { /* NULLs: unversioned */
    char *deployment, *build_id;
} own_version;

struct tn_run_versioning {
    bool shown;
    int32_t behavior;
    own_version version;
    int32_t override;
    own_version override_version;
    bool in_transition;
    own_version transition;
    int64_t revision;
    int32_t initial_behavior;
    bool notified, declined;
    own_version notified_version, declined_version;
    int64_t notified_revision, declined_revision;
    char *deployment_name; /* of the worker of the last workflow task, or of the override */
    uint64_t changes;      /* memory only */
};
typedef struct tn_run_versioning versioning;

/* ---- memory ---------------------------------------------------------------------------------- */

static versioning *of(tn_ms *ms)
{
    if (!ms->versioning)
        ms->versioning = tn_ms_alloc(ms, sizeof(*ms->versioning));
    return ms->versioning;
}

static void set_version(tn_ms *ms, own_version *slot, tn_dver v)
{
    tn_ms_replace_str(ms, &slot->deployment, v.deployment);
    tn_ms_replace_str(ms, &slot->build_id, v.build_id);
}

static tn_dver get_version(const own_version *v)
{
    return (tn_dver){tn_str_from(v->deployment), tn_str_from(v->build_id)};
}

static void clear(tn_ms *ms, versioning *v)
{
    own_version *versions[] = {&v->version, &v->override_version, &v->transition,
                               &v->notified_version, &v->declined_version};
    for (size_t i = 0; i < TN_COUNT_OF(versions); i++)
        set_version(ms, versions[i], (tn_dver){0});
    tn_ms_replace_str(ms, &v->deployment_name, TN_STR(""));
    *v = (versioning){0};
}

void tn_versioning_destroy(tn_ms *ms)
{
    if (!ms->versioning)
        return;
    clear(ms, ms->versioning);
    tn_ms_free(ms, ms->versioning);
    ms->versioning = NULL;
}

/* ---- what a run is --------------------------------------------------------------------------- */

int32_t tn_ms_behavior(const tn_ms *ms)
{
    const versioning *v = ms->versioning;
    if (!v)
        return TN_BEHAVIOR_NONE;
    if (v->in_transition || v->override == OVERRIDE_AUTO)
        return TN_BEHAVIOR_AUTO_UPGRADE;
    return v->override ? TN_BEHAVIOR_PINNED : v->behavior;
}

tn_dver tn_ms_version(const tn_ms *ms)
{
    const versioning *v = ms->versioning;
    if (!v)
        return (tn_dver){0};
    if (v->in_transition)
        return get_version(&v->transition);
    if (v->override && v->override != OVERRIDE_AUTO)
        return get_version(&v->override_version);
    return v->behavior || v->override == OVERRIDE_AUTO ? get_version(&v->version) : (tn_dver){0};
}

bool tn_ms_in_transition(const tn_ms *ms)
{
    return ms->versioning && ms->versioning->in_transition;
}
int64_t tn_ms_revision(const tn_ms *ms) { return ms->versioning ? ms->versioning->revision : 0; }
uint64_t tn_ms_version_changes(const tn_ms *ms)
{
    return ms->versioning ? ms->versioning->changes : 0;
}
const char *tn_ms_deployment_name(const tn_ms *ms)
{
    return ms->versioning && ms->versioning->deployment_name ? ms->versioning->deployment_name : "";
}

bool tn_ms_is_shown_versioned(const tn_ms *ms) { return ms->versioning && ms->versioning->shown; }

bool tn_ms_uses_ramping(const tn_ms *ms)
{
    return ms->versioning && ms->versioning->initial_behavior == USE_RAMPING_VERSION &&
           !ms->last_completed_started_id;
}

bool tn_ms_target_changed(const tn_ms *ms)
{
    return ms->versioning && ms->versioning->notified && tn_ms_behavior(ms) == TN_BEHAVIOR_PINNED;
}

static Temporal__Api__Deployment__V1__WorkerDeploymentVersion *version_message(tn_arena *arena,
                                                                               tn_dver v)
{
    Temporal__Api__Deployment__V1__WorkerDeploymentVersion *to;
    if (!tn_dver_is(v))
        return NULL;
    to = TN_MSG(arena, temporal__api__deployment__v1__worker_deployment_version);
    to->deployment_name = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(v.deployment));
    to->build_id = tn_arena_printf(arena, TN_STR_FMT, TN_STR_ARG(v.build_id));
    return to;
}

static tn_dver of_message(const Temporal__Api__Deployment__V1__WorkerDeploymentVersion *v)
{
    return v ? (tn_dver){tn_str_from(v->deployment_name), tn_str_from(v->build_id)} : (tn_dver){0};
}

static char *version_text(tn_arena *arena, tn_dver v, char delimiter)
{
    return tn_dver_is(v)
               ? tn_arena_printf(arena, TN_STR_FMT "%c" TN_STR_FMT, TN_STR_ARG(v.deployment),
                                 delimiter, TN_STR_ARG(v.build_id))
               : (char *)(uintptr_t)(delimiter == '.' ? "__unversioned__" : "");
}

static tn_override *override_message(tn_arena *arena, int32_t kind, tn_dver v)
{
    tn_override *to;
    if (!kind)
        return NULL;
    to = TN_MSG(arena, temporal__api__workflow__v1__versioning_override);
    if (kind == OVERRIDE_AUTO) {
        to->override_case = TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_AUTO_UPGRADE;
        to->auto_upgrade = true;
    } else if (kind == OVERRIDE_PINNED) {
        to->override_case = TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_PINNED;
        to->pinned =
            TN_MSG(arena, temporal__api__workflow__v1__versioning_override__pinned_override);
        to->pinned->behavior = 1;
        to->pinned->version = version_message(arena, v);
    } else {
        to->override_case = TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_ONE_TIME;
        to->one_time =
            TN_MSG(arena, temporal__api__workflow__v1__versioning_override__one_time_override);
        to->one_time->target_deployment_version = version_message(arena, v);
    }
    return to;
}

tn_override *tn_ms_override(const tn_ms *ms, tn_arena *arena)
{
    const versioning *v = ms->versioning;
    return v ? override_message(arena, v->override, get_version(&v->override_version)) : NULL;
}

/* For clients of before, the same once more in the old fields. */
static void show_old(tn_arena *arena, tn_override *o)
{
    if (o->override_case ==
        TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_AUTO_UPGRADE) {
        o->behavior = TN_BEHAVIOR_AUTO_UPGRADE;
    } else if (o->override_case ==
               TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_PINNED) {
        o->behavior = TN_BEHAVIOR_PINNED;
        o->pinned_version = version_text(arena, of_message(o->pinned->version), '.');
    }
}

Temporal__Api__Workflow__V1__WorkflowExecutionVersioningInfo *tn_ms_versioning_info(const tn_ms *ms,
                                                                                    tn_arena *arena)
{
    const versioning *v = ms->versioning;
    Temporal__Api__Workflow__V1__WorkflowExecutionVersioningInfo *to;
    if (!v || !v->shown)
        return NULL;
    to = TN_MSG(arena, temporal__api__workflow__v1__workflow_execution_versioning_info);
    to->behavior = (Temporal__Api__Enums__V1__VersioningBehavior)v->behavior;
    to->deployment_version = version_message(arena, get_version(&v->version));
    if (to->deployment_version)
        to->version = version_text(arena, get_version(&v->version), '.');
    to->versioning_override = tn_ms_override(ms, arena);
    if (to->versioning_override)
        show_old(arena, to->versioning_override);
    if (v->in_transition) {
        to->version_transition =
            TN_MSG(arena, temporal__api__workflow__v1__deployment_version_transition);
        to->version_transition->deployment_version =
            version_message(arena, get_version(&v->transition));
        to->version_transition->version = version_text(arena, get_version(&v->transition), '.');
    }
    to->revision_number = v->revision;
    to->continue_as_new_initial_versioning_behavior =
        (Temporal__Api__Enums__V1__ContinueAsNewVersioningBehavior)v->initial_behavior;
    return to;
}

/* ---- overrides ------------------------------------------------------------------------------- */

/* "name.build" or "name:build". */
static tn_dver version_of_text(const char *s)
{
    size_t i = strcspn(s, ".:");
    return i && s[i] && s[i + 1] && strcmp(s, "__unversioned__") != 0
               ? (tn_dver){{s, i}, tn_str_from(s + i + 1)}
               : (tn_dver){0};
}

static int32_t read_override(const tn_override *o, tn_dver *out)
{
    *out = (tn_dver){0};
    if (!o)
        return OVERRIDE_NONE;
    switch ((int)o->override_case) {
    case TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_AUTO_UPGRADE:
        return OVERRIDE_AUTO;
    case TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_PINNED:
        *out = of_message(o->pinned->version);
        return OVERRIDE_PINNED;
    case TEMPORAL__API__WORKFLOW__V1__VERSIONING_OVERRIDE__OVERRIDE_ONE_TIME:
        *out = of_message(o->one_time->target_deployment_version);
        return OVERRIDE_ONE_TIME;
    default:
        break;
    }
    if ((int)o->behavior == TN_BEHAVIOR_AUTO_UPGRADE)
        return OVERRIDE_AUTO;
    if ((int)o->behavior != TN_BEHAVIOR_PINNED)
        return OVERRIDE_NONE;
    if (*o->pinned_version)
        *out = version_of_text(o->pinned_version);
    else if (o->deployment)
        *out = (tn_dver){tn_str_from(o->deployment->series_name),
                         tn_str_from(o->deployment->build_id)};
    return OVERRIDE_PINNED;
}

tn_override *tn_override_settle(tn_arena *arena, const tn_override *given)
{
    tn_dver v;
    int32_t kind = read_override(given, &v);
    return override_message(arena, kind, v);
}

bool tn_override_is_pinned(const tn_override *given)
{
    tn_dver v;
    return read_override(given, &v) == OVERRIDE_PINNED;
}

tn_dver tn_override_target(const tn_override *given)
{
    tn_dver v;
    (void)read_override(given, &v);
    return v;
}

/* ---- search attributes ----------------------------------------------------------------------- */

static void put_json_text(tn_buf *out, tn_str s)
{
    tn_buf_put_u8(out, '"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '"' || c == '\\')
            tn_buf_printf(out, "\\%c", c);
        else if (c < 0x20 || c == '<' || c == '>' || c == '&')
            tn_buf_printf(out, "\\u%04x", c);
        else
            tn_buf_put_u8(out, c);
    }
    tn_buf_put_u8(out, '"');
}

static void put_attribute(tn_ms *ms, tn_str name, const tn_buf *json, const char *type)
{
    Temporal__Api__Common__V1__Payload payload = TEMPORAL__API__COMMON__V1__PAYLOAD__INIT;
    Temporal__Api__Common__V1__Payload__MetadataEntry metadata[2] = {
        TEMPORAL__API__COMMON__V1__PAYLOAD__METADATA_ENTRY__INIT,
        TEMPORAL__API__COMMON__V1__PAYLOAD__METADATA_ENTRY__INIT};
    Temporal__Api__Common__V1__Payload__MetadataEntry *entries[] = {&metadata[0], &metadata[1]};
    tn_buf packed = {0};

    metadata[0].key = (char *)(uintptr_t) "encoding";
    metadata[0].value = (ProtobufCBinaryData){10, (uint8_t *)(uintptr_t) "json/plain"};
    metadata[1].key = (char *)(uintptr_t) "type";
    metadata[1].value = (ProtobufCBinaryData){strlen(type), (uint8_t *)(uintptr_t)type};
    payload.metadata = entries;
    payload.n_metadata = TN_COUNT_OF(entries);
    payload.data = (ProtobufCBinaryData){json->n, json->p};
    TN_ASSERT(tn_proto_pack_buf(&payload.base, &packed) == TN_OK);
    tn_payload_map_put(ms, &ms->search_attributes, name, tn_buf_blob(&packed));
    tn_buf_done(&packed);
}

static void put_keyword(tn_ms *ms, tn_str name, tn_str value)
{
    tn_buf json = {0};
    if (!value.n) {
        tn_payload_map_put(ms, &ms->search_attributes, name, (tn_blob){NULL, 0});
        return;
    }
    put_json_text(&json, value);
    put_attribute(ms, name, &json, "Keyword");
    tn_buf_done(&json);
}

/* The inside of a list attribute's JSON, without the brackets. */
static tn_str list_of(const tn_ms *ms, tn_str name)
{
    const tn_named_payload *known = tn_payload_map_find(&ms->search_attributes, name);
    tn_wire_field data;
    if (!known || !tn_wire_find(known->payload, 2, &data) || data.bytes.n < 2)
        return (tn_str){0};
    return (tn_str){(const char *)data.bytes.p + 1, data.bytes.n - 2};
}

static bool has_item(tn_str list, const tn_buf *item)
{
    return item->n && list.n && memmem(list.p, list.n, item->p, item->n);
}

#define LIST_BYTES_MAX 2048u

/* Items of `list` that are none of the server's states of before: "unversioned", "assigned:...", "pinned:...". */
static void put_others(tn_buf *out, tn_str list)
{
    const char *p = list.n ? list.p : "", *end = p + list.n;
    while (p < end) {
        const char *q = p + 1; /* past the opening quote; builds escape theirs */
        while (q < end && *q != '"')
            q += *q == '\\' ? 2 : 1;
        q = q < end ? q + 1 : end;
        tn_str item = {p + 1, (size_t)(q - p) - 1};
        if (!tn_str_is(item, "unversioned\"") && !tn_str_starts(item, TN_STR("assigned:")) &&
            !tn_str_starts(item, TN_STR("pinned:"))) {
            if (out->n > 1)
                tn_buf_put_u8(out, ',');
            tn_buf_put(out, p, (size_t)(q - p));
        }
        p = q < end ? q + 1 : end; /* the comma */
    }
}

/* What the run is listed under: the override comes before what its worker said; a transition does not count. */
static int32_t listed_behavior(const versioning *v)
{
    if (v->override)
        return v->override == OVERRIDE_AUTO ? TN_BEHAVIOR_AUTO_UPGRADE : TN_BEHAVIOR_PINNED;
    return v->behavior;
}

static tn_dver listed_version(const versioning *v)
{
    return v->override && v->override != OVERRIDE_AUTO ? get_version(&v->override_version)
                                                       : get_version(&v->version);
}

static void list_build_ids(tn_ms *ms)
{
    const versioning *v = ms->versioning;
    int32_t behavior = listed_behavior(v);
    tn_dver version = listed_version(v);
    tn_str old = list_of(ms, TN_STR("BuildIds"));
    tn_buf json = {0}, text = {0};

    if (!behavior && !old.n)
        return; /* never versioned: its list is made elsewhere (apply.c) */
    tn_buf_put_u8(&json, '[');
    if (!behavior) {
        tn_buf_printf(&json, "\"unversioned\"");
    } else if (behavior == TN_BEHAVIOR_PINNED) {
        tn_buf_printf(&text, "pinned:" TN_STR_FMT ":" TN_STR_FMT, TN_STR_ARG(version.deployment),
                      TN_STR_ARG(version.build_id));
        put_json_text(&json, (tn_str){(const char *)text.p, text.n});
    }
    put_others(&json, old);
    tn_buf_put_u8(&json, ']');
    if (json.n <= LIST_BYTES_MAX)
        put_attribute(ms, TN_STR("BuildIds"), &json, "KeywordList");
    tn_buf_done(&json);
    tn_buf_done(&text);
}

static void list_used(tn_ms *ms, tn_dver used)
{
    tn_str name = TN_STR("TemporalUsedWorkerDeploymentVersions");
    tn_str old = list_of(ms, name);
    tn_buf item = {0}, text = {0}, json = {0};

    if (!tn_dver_is(used))
        return;
    tn_buf_printf(&text, TN_STR_FMT ":" TN_STR_FMT, TN_STR_ARG(used.deployment),
                  TN_STR_ARG(used.build_id));
    put_json_text(&item, (tn_str){(const char *)text.p, text.n});
    if (!has_item(old, &item)) {
        while (old.n + item.n + 3 > LIST_BYTES_MAX && old.n) { /* the oldest make room */
            const char *comma = memmem(old.p, old.n, "\",\"", 3);
            size_t cut = comma ? (size_t)(comma - old.p) + 2 : old.n;
            old = (tn_str){old.p + cut, old.n - cut};
        }
        tn_buf_put_u8(&json, '[');
        tn_buf_put(&json, old.p, old.n);
        if (old.n)
            tn_buf_put_u8(&json, ',');
        tn_buf_put(&json, item.p, item.n);
        tn_buf_put_u8(&json, ']');
        put_attribute(ms, name, &json, "KeywordList");
    }
    tn_buf_done(&item);
    tn_buf_done(&text);
    tn_buf_done(&json);
}

static void list_run(tn_ms *ms, tn_dver used)
{
    static const char *const names[] = {"", "Pinned", "AutoUpgrade"};
    const versioning *v = ms->versioning;
    int32_t behavior = listed_behavior(v);
    tn_dver version = listed_version(v);
    tn_buf text = {0};

    if (tn_dver_is(version))
        tn_buf_printf(&text, TN_STR_FMT ":" TN_STR_FMT, TN_STR_ARG(version.deployment),
                      TN_STR_ARG(version.build_id));
    put_keyword(ms, TN_STR("TemporalWorkerDeployment"),
                tn_dver_is(version) ? version.deployment : tn_str_from(v->deployment_name));
    put_keyword(ms, TN_STR("TemporalWorkerDeploymentVersion"),
                (tn_str){(const char *)text.p, text.n});
    put_keyword(ms, TN_STR("TemporalWorkflowVersioningBehavior"),
                tn_str_from(behavior > 0 && behavior <= 2 ? names[behavior] : ""));
    tn_buf_done(&text);
    list_build_ids(ms);
    list_used(ms, used);
}

/* ---- the fold -------------------------------------------------------------------------------- */

static void put_override(tn_ms *ms, const tn_override *override)
{
    tn_dver target;
    versioning *v = of(ms);
    v->override = read_override(override, &target);
    set_version(ms, &v->override_version, target);
    v->shown = true;
}

void tn_versioning_started(tn_ms *ms, const tn_started_attrs *a)
{
    const Temporal__Api__Deployment__V1__InheritedAutoUpgradeInfo *upgrade =
        a->inherited_auto_upgrade_info;
    const Temporal__Api__History__V1__DeclinedTargetVersionUpgrade *declined =
        a->declined_target_version_upgrade;

    if (!a->versioning_override && !a->inherited_pinned_version && !upgrade)
        return;
    if (a->versioning_override)
        put_override(ms, a->versioning_override);
    versioning *v = of(ms);
    v->shown = true;
    if (a->inherited_pinned_version) {
        set_version(ms, &v->version, of_message(a->inherited_pinned_version));
        v->behavior = TN_BEHAVIOR_PINNED;
        if (*a->continued_execution_run_id && declined) {
            v->declined = true;
            set_version(ms, &v->declined_version, of_message(declined->deployment_version));
            v->declined_revision = declined->revision_number;
        }
    }
    if (upgrade) {
        v->revision = upgrade->source_deployment_revision_number;
        set_version(ms, &v->version, of_message(upgrade->source_deployment_version));
        v->behavior = TN_BEHAVIOR_AUTO_UPGRADE;
        v->initial_behavior = (int32_t)upgrade->continue_as_new_initial_versioning_behavior;
    }
    tn_ms_replace_str(ms, &v->deployment_name, tn_ms_version(ms).deployment);
    if (tn_ms_behavior(ms))
        list_run(ms, (tn_dver){0});
}

void tn_versioning_completed(
    tn_ms *ms, const Temporal__Api__History__V1__WorkflowTaskCompletedEventAttributes *a)
{
    tn_dver by = of_message(a->deployment_version);
    int32_t behavior_before = tn_ms_behavior(ms), behavior = (int32_t)a->versioning_behavior;
    bool transition_over = false, same;
    versioning *v = ms->versioning;

    if (!v && !behavior && !*a->worker_deployment_name)
        return;
    v = of(ms);
    if (v->in_transition && tn_dver_eq(get_version(&v->transition), by)) {
        v->in_transition = false;
        set_version(ms, &v->transition, (tn_dver){0});
        transition_over = true;
    }
    tn_ms_replace_str(ms, &v->deployment_name, tn_str_from(a->worker_deployment_name));
    same = tn_dver_eq(get_version(&v->version), behavior ? by : (tn_dver){0});
    v->behavior = behavior;
    v->shown = v->shown || behavior;
    if (!same)
        set_version(ms, &v->version, behavior ? by : (tn_dver){0});
    if (v->override == OVERRIDE_ONE_TIME && tn_dver_is(by) &&
        tn_dver_eq(get_version(&v->override_version), by)) {
        v->override = OVERRIDE_NONE;
        set_version(ms, &v->override_version, (tn_dver){0});
        same = false;
    }
    if (transition_over || !same || behavior_before != tn_ms_behavior(ms))
        v->changes++;
    list_run(ms, by);
}

void tn_versioning_override(tn_ms *ms, const tn_override *override, bool unset)
{
    int32_t behavior_before = tn_ms_behavior(ms);
    tn_dver now, before = tn_ms_version(ms);
    own_version kept = {0};
    versioning *v;

    if (!override && (!unset || !ms->versioning))
        return;
    set_version(ms, &kept, before);
    v = of(ms);
    if (override) {
        put_override(ms, override);
        if (v->override_version.deployment)
            tn_ms_replace_str(ms, &v->deployment_name, tn_str_from(v->override_version.deployment));
    } else {
        v->override = OVERRIDE_NONE;
        set_version(ms, &v->override_version, (tn_dver){0});
        tn_ms_replace_str(ms, &v->deployment_name, tn_str_from(v->version.deployment));
    }
    now = tn_ms_version(ms);
    if (behavior_before != tn_ms_behavior(ms) || !tn_dver_eq(now, get_version(&kept))) {
        v->in_transition = false;
        set_version(ms, &v->transition, (tn_dver){0});
        v->changes++;
        tn_ms_replace_str(ms, &ms->sticky_queue, TN_STR(""));
        ms->sticky_timeout_ns = 0;
        list_run(ms, (tn_dver){0});
    }
    set_version(ms, &kept, (tn_dver){0});
}

/* ---- beside the events ----------------------------------------------------------------------- */

bool tn_versioning_transit(tn_ms *ms, tn_dver to, int64_t revision)
{
    versioning *v;
    if (tn_ms_behavior(ms) == TN_BEHAVIOR_PINNED)
        return false;
    v = of(ms);
    v->shown = v->in_transition = true;
    set_version(ms, &v->transition, to);
    v->revision = revision;
    v->changes++;
    tn_ms_replace_str(ms, &ms->sticky_queue, TN_STR(""));
    ms->sticky_timeout_ns = 0;
    ms->extras_stale = true;
    return true;
}

static bool forget_target(tn_ms *ms, versioning *v)
{
    bool had = v->notified || v->declined;
    v->notified = v->declined = false;
    v->notified_revision = v->declined_revision = 0;
    set_version(ms, &v->notified_version, (tn_dver){0});
    set_version(ms, &v->declined_version, (tn_dver){0});
    return had;
}

bool tn_versioning_note_target(tn_ms *ms, tn_dver target, int64_t revision)
{
    versioning *v = ms->versioning;
    int64_t seen;

    if (!v || !tn_ms_behavior(ms))
        return false;
    seen =
        v->notified_revision > v->declined_revision ? v->notified_revision : v->declined_revision;
    if (v->override)
        return forget_target(ms, v);
    if (tn_ms_behavior(ms) == TN_BEHAVIOR_AUTO_UPGRADE)
        return false;
    if (tn_dver_eq(tn_ms_version(ms), target) && revision >= seen)
        return forget_target(ms, v);
    if ((v->declined && revision <= v->declined_revision) || revision < seen)
        return false;
    if (v->notified && !v->declined && v->notified_revision == revision &&
        tn_dver_eq(get_version(&v->notified_version), target))
        return false; /* it says so already */
    (void)forget_target(ms, v);
    v->notified = true;
    set_version(ms, &v->notified_version, target);
    v->notified_revision = revision;
    return true;
}

/* ---- the next run ---------------------------------------------------------------------------- */

static tn_dver kept_version(tn_arena *arena, tn_dver v)
{
    return (tn_dver){tn_arena_str(arena, v.deployment), tn_arena_str(arena, v.build_id)};
}

void tn_ms_heritage_of_continued(const tn_ms *ms, tn_arena *arena, tn_str queue,
                                 int32_t initial_behavior, tn_queue_in_version *in_version,
                                 void *user, tn_heritage *out)
{
    int32_t behavior = tn_ms_behavior(ms);
    tn_dver version = kept_version(arena, tn_ms_version(ms));
    const versioning *v = ms->versioning;
    bool fits;

    *out = (tn_heritage){0};
    if (!v)
        return;
    fits = tn_str_is(queue, ms->task_queue) ||
           (tn_dver_is(version) && in_version &&
            in_version(user, tn_str_from(ms->ns_id), queue, version));
    if (behavior == TN_BEHAVIOR_PINNED && !initial_behavior && fits)
        out->pinned = version;
    if (v->override == OVERRIDE_PINNED && fits)
        out->override = tn_ms_override(ms, arena);
    if ((behavior == TN_BEHAVIOR_AUTO_UPGRADE ||
         (behavior == TN_BEHAVIOR_PINNED && initial_behavior)) &&
        fits && v->revision && !tn_dver_is(out->pinned)) {
        out->upgrade = version;
        out->upgrade_revision = v->revision;
        out->initial_behavior = initial_behavior;
    }
    if (!tn_dver_is(out->pinned))
        return;
    out->declined = v->notified || v->declined;
    out->declined_version =
        kept_version(arena, get_version(v->notified ? &v->notified_version : &v->declined_version));
    out->declined_revision = v->notified ? v->notified_revision : v->declined_revision;
}

void tn_ms_heritage_of_retried(const tn_ms *ms, tn_arena *arena, bool was_pinned_at_start,
                               bool retry, tn_heritage *out)
{
    int32_t behavior = tn_ms_behavior(ms);
    const versioning *v = ms->versioning;

    *out = (tn_heritage){0};
    if (!v)
        return;
    if (v->override == OVERRIDE_PINNED)
        out->override = tn_ms_override(ms, arena);
    if (!retry)
        return;
    if (behavior == TN_BEHAVIOR_PINNED && was_pinned_at_start) {
        out->pinned = kept_version(arena, tn_ms_version(ms));
    } else if (behavior == TN_BEHAVIOR_AUTO_UPGRADE && v->revision) {
        out->upgrade = kept_version(arena, tn_ms_version(ms));
        out->upgrade_revision = v->revision;
        out->initial_behavior = v->initial_behavior;
    }
}

void tn_ms_heritage_of_child(const tn_ms *ms, tn_arena *arena, tn_str ns_id, tn_str queue,
                             tn_queue_in_version *in_version, void *user, tn_heritage *out)
{
    int32_t behavior = tn_ms_behavior(ms);
    tn_dver version = kept_version(arena, tn_ms_version(ms));
    const versioning *v = ms->versioning;

    *out = (tn_heritage){0};
    if (!v || !tn_str_is(ns_id, ms->ns_id))
        return;
    if (!tn_str_is(queue, ms->task_queue) &&
        !(tn_dver_is(version) && in_version && in_version(user, ns_id, queue, version)))
        return;
    if (behavior == TN_BEHAVIOR_PINNED)
        out->pinned = version;
    if (v->override && v->override != OVERRIDE_AUTO)
        out->override = tn_ms_override(ms, arena);
    if (behavior == TN_BEHAVIOR_AUTO_UPGRADE && v->revision) {
        out->upgrade = version;
        out->upgrade_revision = v->revision;
    }
}

void tn_heritage_put(tn_arena *arena, const tn_heritage *h, tn_started_attrs *a)
{
    a->versioning_override = h->override;
    a->inherited_pinned_version = version_message(arena, h->pinned);
    if (tn_dver_is(h->upgrade) && !a->inherited_pinned_version) {
        a->inherited_auto_upgrade_info =
            TN_MSG(arena, temporal__api__deployment__v1__inherited_auto_upgrade_info);
        a->inherited_auto_upgrade_info->source_deployment_version =
            version_message(arena, h->upgrade);
        a->inherited_auto_upgrade_info->source_deployment_revision_number = h->upgrade_revision;
        a->inherited_auto_upgrade_info->continue_as_new_initial_versioning_behavior =
            (Temporal__Api__Enums__V1__ContinueAsNewVersioningBehavior)h->initial_behavior;
    }
    if (h->declined) {
        a->declined_target_version_upgrade =
            TN_MSG(arena, temporal__api__history__v1__declined_target_version_upgrade);
        a->declined_target_version_upgrade->deployment_version =
            version_message(arena, h->declined_version);
        a->declined_target_version_upgrade->revision_number = h->declined_revision;
    }
}

/* ---- the store ------------------------------------------------------------------------------- */

static Tenon__VersionName *save_version(tn_arena *arena, const own_version *v)
{
    Tenon__VersionName *to;
    if (!v->deployment)
        return NULL;
    to = TN_MSG(arena, tenon__version_name);
    to->deployment = v->deployment;
    to->build_id = v->build_id ? v->build_id : to->build_id;
    return to;
}

static void load_version(tn_ms *ms, own_version *to, const Tenon__VersionName *from)
{
    set_version(ms, to,
                from ? (tn_dver){tn_str_from(from->deployment), tn_str_from(from->build_id)}
                     : (tn_dver){0});
}

Tenon__RunVersioning *tn_versioning_save(const tn_ms *ms, tn_arena *arena)
{
    const versioning *v = ms->versioning;
    Tenon__RunVersioning *to;
    if (!v)
        return NULL;
    to = TN_MSG(arena, tenon__run_versioning);
    to->shown = v->shown;
    to->behavior = v->behavior;
    to->version = save_version(arena, &v->version);
    to->override = v->override;
    to->override_version = save_version(arena, &v->override_version);
    to->in_transition = v->in_transition;
    to->transition = save_version(arena, &v->transition);
    to->revision = v->revision;
    to->initial_behavior = v->initial_behavior;
    to->notified = v->notified;
    to->notified_version = save_version(arena, &v->notified_version);
    to->notified_revision = v->notified_revision;
    to->declined = v->declined;
    to->declined_version = save_version(arena, &v->declined_version);
    to->declined_revision = v->declined_revision;
    to->deployment_name = v->deployment_name ? v->deployment_name : to->deployment_name;
    return to;
}

void tn_versioning_load(tn_ms *ms, const Tenon__RunVersioning *from)
{
    versioning *v;
    if (!from) {
        tn_versioning_destroy(ms);
        return;
    }
    v = of(ms);
    v->shown = from->shown;
    v->behavior = from->behavior;
    load_version(ms, &v->version, from->version);
    v->override = from->override;
    load_version(ms, &v->override_version, from->override_version);
    v->in_transition = from->in_transition;
    load_version(ms, &v->transition, from->transition);
    v->revision = from->revision;
    v->initial_behavior = from->initial_behavior;
    v->notified = from->notified;
    load_version(ms, &v->notified_version, from->notified_version);
    v->notified_revision = from->notified_revision;
    v->declined = from->declined;
    load_version(ms, &v->declined_version, from->declined_version);
    v->declined_revision = from->declined_revision;
    tn_ms_replace_str(ms, &v->deployment_name, tn_str_from(from->deployment_name));
}
