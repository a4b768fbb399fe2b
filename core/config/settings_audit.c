/* SPDX-License-Identifier: MIT */
/* authorization.audit: where verdicts are written down, and which. */
#include "config/settings.h"

#define AUDIT "authorization.audit"

static const struct {
    const char *name;
    int number;
} facilities[] = {{"user", 1},    {"daemon", 3},  {"auth", 4},    {"authpriv", 10},
                  {"local0", 16}, {"local1", 17}, {"local2", 18}, {"local3", 19},
                  {"local4", 20}, {"local5", 21}, {"local6", 22}, {"local7", 23}};

/* False: not set, or not a text (which was complained of). */
static bool word_at(const tn_config *root, const char *path, tn_config_problems *problems,
                    tn_str *out)
{
    tn_error err = {0};
    tn_status status = tn_config_str(root, path, out, &err);
    if (status == TN_EINVALID)
        tn_config_problems_add(problems, err.text);
    return status == TN_OK;
}

static void read_sink(const tn_config *root, tn_config_problems *problems, tn_settings_audit *a)
{
    tn_str word;
    if (!word_at(root, AUDIT ".sink", problems, &word)) {
        if (!tn_config_get(root, AUDIT ".sink"))
            tn_config_complain_at(problems, tn_config_get(root, AUDIT), "sink",
                                  "write sink: file, or sink: syslog", "is not set");
        return;
    }
    a->syslog = tn_str_is(word, "syslog");
    if (!a->syslog && !tn_str_is(word, "file")) {
        tn_config_complain_at(problems, root, AUDIT ".sink", NULL,
                              "has \"%.60s\", wants file or syslog", word.p);
        return;
    }
    if (word_at(root, AUDIT ".path", problems, &word))
        a->path = word.p;
    else if (a->syslog)
        a->path = "/dev/log";
    if (!a->path)
        tn_config_complain_at(problems, tn_config_get(root, AUDIT), "path",
                              "write path: /var/log/tenon/audit.log", "is not set");
    else if (a->path[0] != '/')
        tn_config_complain_at(problems, root, AUDIT ".path", NULL,
                              "has \"%.60s\", wants an absolute path", a->path);
}

static void read_facility(const tn_config *root, tn_config_problems *problems, tn_settings_audit *a)
{
    tn_str word;
    if (!word_at(root, AUDIT ".facility", problems, &word))
        return;
    for (size_t i = 0; i < TN_COUNT_OF(facilities); i++) {
        if (tn_str_is(word, facilities[i].name)) {
            a->facility = facilities[i].number;
            return;
        }
    }
    tn_config_complain_at(problems, root, AUDIT ".facility", NULL,
                          "has \"%.60s\", wants authpriv, auth, daemon, user or local0 to local7",
                          word.p);
}

void tn_settings_audit_read(const tn_config *root, tn_config_problems *problems,
                            tn_settings_audit *a)
{
    const tn_config *stanza = tn_config_get(root, AUDIT);
    tn_str word;
    if (!stanza || tn_config_kind_of(stanza) == TN_CONFIG_NULL)
        return;
    if (tn_config_kind_of(stanza) != TN_CONFIG_MAP) {
        tn_config_complain_at(problems, stanza, NULL, "write sink: and path: below it",
                              "wants a map");
        return;
    }
    a->enabled = true;
    read_sink(root, problems, a);
    read_facility(root, problems, a);
    if (!word_at(root, AUDIT ".events", problems, &word))
        return;
    a->all = tn_str_is(word, "all");
    if (!a->all && !tn_str_is(word, "denied"))
        tn_config_complain_at(problems, root, AUDIT ".events", NULL,
                              "has \"%.60s\", wants denied or all", word.p);
}
