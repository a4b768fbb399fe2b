/* SPDX-License-Identifier: MIT */
/* tenon.yaml as a whole: defaults, every kind of complaint in one run, start-dev. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "config/settings.h"

static const char minimal[] = "persistence:\n"
                              "  defaultStore: main\n"
                              "  visibilityStore: vis\n"
                              "  datastores:\n"
                              "    main: {plugin: sqlite, path: /tmp/x.db}\n"
                              "    vis: {plugin: sqlite, path: /tmp/y.db}\n"
                              "authorization:\n"
                              "  claimMapper: {plugin: none}\n"
                              "  authorizer: {plugin: allow_all}\n";

static tn_settings *parse(const char *text, tn_config_problems *problems)
{
    tn_settings *s = NULL;
    tn_status status =
        tn_settings_parse("tenon.yaml", tn_blob_of_str(tn_str_from(text)), problems, &s);
    assert_int_equal(status == TN_OK, s != NULL);
    return s;
}

static void a_second_visibility_store(void **state)
{
    (void)state;
    static const char good[] = "  secondaryVisibilityStore: main\n",
                      same[] = "  secondaryVisibilityStore: vis\n",
                      none[] = "  secondaryVisibilityStore: vsi\n";
    const struct {
        const char *line, *want;
    } tries[] = {{"", NULL},
                 {good, NULL},
                 {same, "tenon.yaml:2: persistence.secondaryVisibilityStore: is the same as"},
                 {none,
                  "tenon.yaml:2: persistence.secondaryVisibilityStore: datastore \"vsi\" is not "
                  "defined (did you mean \"vis\"?)"}};
    for (size_t i = 0; i < TN_COUNT_OF(tries); i++) {
        char text[600];
        snprintf(text, sizeof(text), "persistence:\n%s%s", tries[i].line,
                 minimal + strlen("persistence:\n"));
        tn_config_problems *p = tn_config_problems_create();
        tn_settings *s = parse(text, p);
        assert_int_equal(s != NULL, tries[i].want == NULL);
        if (s)
            assert_int_equal(s->second_visibility != NULL, i == 1);
        else if (strncmp(tn_config_problems_text(p, 0), tries[i].want, strlen(tries[i].want)))
            fail_msg("%s", tn_config_problems_text(p, 0));
        tn_settings_destroy(s);
        tn_config_problems_destroy(p);
    }
}

static void defaults_fill_what_is_not_said(void **state)
{
    (void)state;
    tn_config_problems *p = tn_config_problems_create();
    tn_settings *s = parse(minimal, p);
    assert_non_null(s);
    assert_int_equal(s->services[TN_SERVICE_FRONTEND].grpc_port, 7233);
    assert_string_equal(s->services[TN_SERVICE_FRONTEND].bind_ip, "127.0.0.1");
    for (int i = 0; i < TN_SERVICE_COUNT; i++)
        assert_true(s->services[i].enabled);
    assert_int_equal(s->log_level, TN_LOG_INFO);
    assert_int_equal(s->rpc_message_bytes_max, 4 << 20);
    assert_null(s->metrics_ip);
    assert_string_equal(s->store->plugin, "sqlite");
    assert_string_equal(s->visibility->stanza_name, "vis");
    assert_string_equal(s->authorizer.plugin, "allow_all");
    tn_str path;
    assert_int_equal(tn_config_str(s->store->stanza, "path", &path, NULL), TN_OK);
    assert_true(tn_str_is(path, "/tmp/x.db"));
    assert_int_equal(s->plugin_dirs_count, 1);
    tn_settings_destroy(s);
    tn_config_problems_destroy(p);
}

static void everything_can_be_said(void **state)
{
    (void)state;
    char text[2000];
    snprintf(text, sizeof text,
             "%slog: {level: debug, format: json}\nthreads: 3\n"
             "services: {frontend: {rpc: {grpcPort: 0, bindOnIP: \"::1\"}}, history: {}}\n"
             "plugins: {dirs: [/a, /b]}\nmetrics: {prometheus: {listenAddress: \"[::1]:9000\"}}\n"
             "dynamicConfigClient: {filepath: d.yaml, pollInterval: 6s}\ncache: {maxBytes: 2GiB}\n"
             "rpc: {maxMessageBytes: 8MiB, drainTimeout: 0s}\nnamespaces: {create: [default, x], "
             "retention: 48h}\n",
             minimal);
    tn_config_problems *p = tn_config_problems_create();
    tn_settings *s = parse(text, p);
    if (!s)
        fail_msg("%s", tn_config_problems_text(p, 0));
    assert_true(s->log_json);
    assert_int_equal(s->threads, 3);
    assert_int_equal(s->services[TN_SERVICE_FRONTEND].grpc_port, 0);
    assert_true(s->services[TN_SERVICE_HISTORY].enabled);
    assert_false(s->services[TN_SERVICE_WORKER].enabled);
    assert_string_equal(s->plugin_dirs[1], "/b");
    assert_string_equal(s->metrics_ip, "::1");
    assert_int_equal(s->metrics_port, 9000);
    assert_int_equal(s->dynamic_config_poll_ns, 6 * TN_SEC);
    assert_int_equal(s->cache_bytes_max, UINT64_C(2) << 30);
    assert_int_equal(s->rpc_drain_ns, 0);
    assert_string_equal(s->create_namespaces[1], "x");
    tn_settings_destroy(s);
    tn_config_problems_destroy(p);
}

static void an_audit_when_asked_for(void **state)
{
    (void)state;
    static const struct {
        const char *audit, *want, *path;
        bool syslog, all;
        int facility;
    } tries[] = {
        {"{sink: file, path: /var/a.log}", NULL, "/var/a.log", false, false, 10},
        {"{sink: file, path: /var/a.log, events: all, maxQueueBytes: 64KiB}", NULL, "/var/a.log",
         false, true, 10},
        {"{sink: syslog, facility: local7}", NULL, "/dev/log", true, false, 23},
        {"{sink: syslog, path: /run/l, facility: auth}", NULL, "/run/l", true, false, 4},
        {"{path: /var/a.log}",
         "tenon.yaml:10: authorization.audit.sink: is not set\n    fix: write sink: file", NULL, 0,
         0, 0},
        {"{}", "tenon.yaml:10: authorization.audit.sink: is not set", NULL, 0, 0, 0},
        {"{sink: file}", "tenon.yaml:10: authorization.audit.path: is not set", NULL, 0, 0, 0},
        {"{sink: file, path: a.log}",
         "tenon.yaml:10: authorization.audit.path: has \"a.log\", wants an absolute path", NULL, 0,
         0, 0},
        {"{sink: pipe, path: /a}",
         "tenon.yaml:10: authorization.audit.sink: has \"pipe\", wants file or syslog", NULL, 0, 0,
         0},
        {"{sink: syslog, facility: mail}",
         "tenon.yaml:10: authorization.audit.facility: has \"mail\"", NULL, 0, 0, 0},
        {"{sink: syslog, events: some}",
         "tenon.yaml:10: authorization.audit.events: has \"some\", wants denied or all", NULL, 0, 0,
         0},
        {"{sink: syslog, maxQueueBytes: 1}",
         "tenon.yaml:10: authorization.audit.maxQueueBytes: has 1, wants 65536", NULL, 0, 0, 0},
        {"{sink: syslog, file: x}", "tenon.yaml:10: authorization.audit.file: unknown key", NULL, 0,
         0, 0},
        {"file", "tenon.yaml:10: authorization.audit: wants a map", NULL, 0, 0, 0},
        {"", NULL, NULL, 0, 0, 0},
    };
    for (size_t i = 0; i < TN_COUNT_OF(tries); i++) {
        char text[800];
        snprintf(text, sizeof text, "%s  audit: %s\n", minimal, tries[i].audit);
        tn_config_problems *p = tn_config_problems_create();
        tn_settings *s = parse(text, p);
        if ((s != NULL) != (tries[i].want == NULL) ||
            (!s &&
             strncmp(tn_config_problems_text(p, 0), tries[i].want, strlen(tries[i].want)) != 0))
            fail_msg("%s: %s", tries[i].audit, s ? "accepted" : tn_config_problems_text(p, 0));
        if (s) {
            assert_int_equal(s->audit.enabled, tries[i].path != NULL);
            if (tries[i].path) {
                assert_string_equal(s->audit.path, tries[i].path);
                assert_int_equal(s->audit.syslog, tries[i].syslog);
                assert_int_equal(s->audit.all, tries[i].all);
                assert_int_equal(s->audit.facility, tries[i].facility);
                assert_int_equal(s->audit.queue_bytes_max, i == 1 ? 65536 : 1 << 20);
            }
        }
        tn_settings_destroy(s);
        tn_config_problems_destroy(p);
    }
}

static void one_run_tells_all_problems(void **state)
{
    (void)state;
    static const char text[] =
        "log: {level: loud, format: xml, colour: red}\n"
        "threads: 65\n"
        "services: {frontend: {rpc: {grpcPort: 70000, bindOnIP: localhost}}}\n"
        "persistence:\n"
        "  defaultStore: mian\n"
        "  datastores: {main: {path: x}}\n"
        "  numHistoryShards: many\n"
        "authorization: {authorizer: {plugin: a, sha256: abc}}\n"
        "metrics: {prometheus: {listenAddress: 8000}}\n"
        "dynamicConfigClient: {pollInterval: 1s}\n"
        "plugins: {dirs: [lib]}\n"
        "perssistence: 1\n";
    static const char *const want[] = {
        "tenon.yaml:1: log.colour: unknown key \"colour\"",
        "tenon.yaml:12: perssistence: unknown key \"perssistence\" (did you mean \"persistence\"?)",
        "tenon.yaml:2: threads: has 65, wants 0 to 64",
        "tenon.yaml:3: services.frontend.rpc.bindOnIP: has \"localhost\", wants an IPv4 or IPv6 "
        "address",
        "tenon.yaml:3: services.frontend.rpc.grpcPort: has 70000, wants 0 to 65535",
        "tenon.yaml:7: persistence.numHistoryShards: has \"many\", wants a whole number",
        "tenon.yaml:10: dynamicConfigClient.pollInterval: has 1s, wants 5 s to 86400 s",
        "tenon.yaml:1: log.level: has \"loud\", wants debug, info, warn, error or never",
        "tenon.yaml:1: log.format: has \"xml\", wants text or json",
        "tenon.yaml:6: persistence.datastores.main: names no plugin\n    fix: write plugin: sqlite",
        "tenon.yaml:5: persistence.defaultStore: datastore \"mian\" is not defined (did you mean "
        "\"main\"?)",
        "tenon.yaml:4: persistence.visibilityStore: is not set",
        "tenon.yaml:8: authorization.claimMapper: is not set, and there is no silent default\n"
        "    fix: write authorization.claimMapper: {plugin: none}",
        "tenon.yaml:8: authorization.authorizer.sha256: wants 64 hex digits",
        "tenon.yaml:11: plugins.dirs.0: has \"lib\", wants an absolute path",
        "tenon.yaml:9: metrics.prometheus.listenAddress: has \"8000\", wants IP:PORT",
    };
    tn_config_problems *p = tn_config_problems_create();
    assert_null(parse(text, p));
    for (size_t i = 0; i < TN_COUNT_OF(want); i++) {
        const char *got = tn_config_problems_text(p, i);
        if (!got || strncmp(got, want[i], strlen(want[i])) != 0)
            fail_msg("%zu: got: %s\nwant: %s", i, got ? got : "nothing", want[i]);
    }
    assert_int_equal(tn_config_problems_count(p), TN_COUNT_OF(want));
    tn_config_problems_destroy(p);
}

static void odd_roots_are_refused(void **state)
{
    (void)state;
    static const char *const odd[] = {"", "[]", "x", "persistence: {datastores: [a]}",
                                      "persistence: 1\nauthorization: []"};
    for (size_t i = 0; i < TN_COUNT_OF(odd); i++) {
        tn_config_problems *p = tn_config_problems_create();
        assert_null(parse(odd[i], p));
        assert_true(tn_config_problems_count(p) > 0);
        tn_config_problems_destroy(p);
    }
}

static void start_dev_is_the_same_settings(void **state)
{
    (void)state;
    const char *const names[] = {"one", "two: \"quoted\"\n"};
    tn_settings_dev_options o;
    tn_settings_dev_options_default(&o);
    o.port = 17300;
    o.metrics_port = 17301;
    o.db_filename = "/tmp/a \"b\"\\c.db";
    o.plugin_dir = "/opt/plugins";
    o.namespaces = names;
    o.namespaces_count = 2;
    tn_config_problems *p = tn_config_problems_create();
    tn_settings *s = NULL;
    if (tn_settings_dev(&o, p, &s) != TN_OK)
        fail_msg("%s", tn_config_problems_text(p, 0));
    assert_int_equal(s->services[TN_SERVICE_FRONTEND].grpc_port, 17300);
    assert_int_equal(s->metrics_port, 17301);
    assert_string_equal(s->metrics_ip, "127.0.0.1");
    assert_string_equal(s->plugin_dirs[0], "/opt/plugins");
    assert_int_equal(s->create_namespaces_count, 3);
    assert_string_equal(s->create_namespaces[0], "default");
    assert_string_equal(s->create_namespaces[2], names[1]);
    tn_str path;
    assert_int_equal(tn_config_str(s->visibility->stanza, "path", &path, NULL), TN_OK);
    assert_string_equal(path.p, "/tmp/a \"b\"\\c.db.visibility");
    tn_settings_destroy(s);
    o.ip = "nowhere";
    assert_int_equal(tn_settings_dev(&o, p, &s), TN_EINVALID);
    tn_config_problems_destroy(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_fill_what_is_not_said),
        cmocka_unit_test(a_second_visibility_store),
        cmocka_unit_test(everything_can_be_said),
        cmocka_unit_test(an_audit_when_asked_for),
        cmocka_unit_test(one_run_tells_all_problems),
        cmocka_unit_test(odd_roots_are_refused),
        cmocka_unit_test(start_dev_is_the_same_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
