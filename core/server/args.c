/* SPDX-License-Identifier: MIT */
/* The command line.  start-dev's words mean what they mean to `temporal server start-dev`. */
#include "server/server.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    OPT_IP = 256,
    OPT_PORT,
    OPT_HTTP_PORT,
    OPT_METRICS_PORT,
    OPT_DB,
    OPT_NAMESPACE,
    OPT_SEARCH_ATTRIBUTE,
    OPT_DYNAMIC,
    OPT_LOG_LEVEL,
    OPT_LOG_FORMAT,
    OPT_THREADS,
    OPT_PLUGIN_DIR,
    OPT_DYNAMIC_FILE,
    OPT_HEADLESS,
    OPT_UI_PORT,
    OPT_CONFIG,
    OPT_ROLE,
    OPT_CHECK,
};

static const char usage_text[] =
    "usage: tenond start-dev [--ip ADDRESS] [--port N] [--http-port N] [--metrics-port N] "
    "[--db-filename FILE]\n"
    "                        [--namespace NAME]... [--search-attribute NAME=TYPE]...\n"
    "                        [--dynamic-config-value KEY=VALUE]... [--dynamic-config-file FILE]\n"
    "                        [--log-level debug|info|warn|error|never] [--log-format text|json]\n"
    "                        [--threads N] [--plugin-dir DIR]\n"
    "       tenond --config FILE [--role frontend|history|matching|worker]...\n"
    "       tenond --check-config FILE\n"
    "       tenond --version | --help\n"
    "\n"
    "See tenond(8).\n";

static int complain(const char *option, const char *value, const char *wants)
{
    fprintf(stderr, "tenond: %s has \"%s\", wants %s\n    fix: see tenond --help\n", option, value,
            wants);
    return 2;
}

static int number(const char *option, const char *text, uint64_t max, uint64_t *out)
{
    if (tn_parse_u64(tn_str_from(text), out) && *out <= max)
        return 0;
    return complain(option, text, max == 65535 ? "a port number, 0 to 65535" : "a number");
}

static int append(const char *option, const char **list, size_t *n, const char *value)
{
    if (*n == TN_ARGS_LIST_MAX)
        return complain(option, value, "to be given at most 32 times");
    list[(*n)++] = value;
    return 0;
}

static int dev_option(tn_args *args, int option, const char *value)
{
    switch (option) {
    case OPT_IP:
        args->dev.ip = value;
        return 0;
    case OPT_PORT:
        return number("--port", value, 65535, &args->dev.port);
    case OPT_HTTP_PORT:
        return number("--http-port", value, 65535, &args->http_port);
    case OPT_METRICS_PORT:
        return number("--metrics-port", value, 65535, &args->dev.metrics_port);
    case OPT_DB:
        args->dev.db_filename = value;
        return 0;
    case OPT_NAMESPACE:
        return append("--namespace", args->namespaces, &args->n_namespaces, value);
    case OPT_SEARCH_ATTRIBUTE:
        if (!strchr(value, '='))
            return complain("--search-attribute", value, "NAME=TYPE, e.g. CustomerId=Keyword");
        return append("--search-attribute", args->search_attributes, &args->n_search_attributes,
                      value);
    case OPT_DYNAMIC:
        if (!strchr(value, '='))
            return complain("--dynamic-config-value", value, "KEY=VALUE");
        return append("--dynamic-config-value", args->dynamic_values, &args->n_dynamic_values,
                      value);
    case OPT_LOG_LEVEL:
        args->dev.log_level = value;
        return 0;
    case OPT_LOG_FORMAT:
        args->dev.log_format = strcmp(value, "pretty") == 0 ? "text" : value;
        return 0;
    case OPT_THREADS:
        return number("--threads", value, 64, &args->dev.threads);
    case OPT_PLUGIN_DIR:
        args->dev.plugin_dir = value;
        return 0;
    case OPT_DYNAMIC_FILE:
        args->dev.dynamic_config_path = value;
        return 0;
    case OPT_HEADLESS: /* there is no web page in this process to leave out */
    case OPT_UI_PORT:
        return 0;
    default:
        fputs(usage_text, stderr);
        return 2;
    }
}

static int parse_dev(int argc, char **argv, tn_args *out)
{
    static const struct option options[] = {
        {"ip", required_argument, NULL, OPT_IP},
        {"port", required_argument, NULL, OPT_PORT},
        {"http-port", required_argument, NULL, OPT_HTTP_PORT},
        {"metrics-port", required_argument, NULL, OPT_METRICS_PORT},
        {"db-filename", required_argument, NULL, OPT_DB},
        {"namespace", required_argument, NULL, OPT_NAMESPACE},
        {"search-attribute", required_argument, NULL, OPT_SEARCH_ATTRIBUTE},
        {"dynamic-config-value", required_argument, NULL, OPT_DYNAMIC},
        {"dynamic-config-file", required_argument, NULL, OPT_DYNAMIC_FILE},
        {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
        {"log-format", required_argument, NULL, OPT_LOG_FORMAT},
        {"threads", required_argument, NULL, OPT_THREADS},
        {"plugin-dir", required_argument, NULL, OPT_PLUGIN_DIR},
        {"headless", no_argument, NULL, OPT_HEADLESS},
        {"ui-port", required_argument, NULL, OPT_UI_PORT},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    out->command = TN_CMD_START_DEV;
    tn_settings_dev_options_default(&out->dev);
    int option, failed = 0;
    while (!failed && (option = getopt_long(argc, argv, "p:f:n:h", options, NULL)) != -1) {
        if (option == 'h') {
            out->command = TN_CMD_HELP;
            return 0;
        }
        static const struct {
            int brief, full;
        } briefs[] = {{'p', OPT_PORT}, {'f', OPT_DB}, {'n', OPT_NAMESPACE}};
        for (size_t i = 0; i < TN_COUNT_OF(briefs); i++)
            if (option == briefs[i].brief)
                option = briefs[i].full;
        failed = dev_option(out, option, optarg);
    }
    if (!failed && optind < argc)
        failed = complain("the command line", argv[optind], "only options after start-dev");
    out->dev.namespaces = out->namespaces;
    out->dev.namespaces_count = out->n_namespaces;
    return failed;
}

static int parse_serve(int argc, char **argv, tn_args *out)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, OPT_CONFIG},
        {"role", required_argument, NULL, OPT_ROLE},
        {"check-config", required_argument, NULL, OPT_CHECK},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    bool any_role = false, roles[TN_SERVICE_COUNT] = {false};
    static const char *const names[TN_SERVICE_COUNT] = {"frontend", "history", "matching",
                                                        "worker"};
    out->command = TN_CMD_HELP;
    int option;
    while ((option = getopt_long(argc, argv, "vh", options, NULL)) != -1) {
        switch (option) {
        case OPT_CONFIG:
            out->command = TN_CMD_SERVE;
            out->config_path = optarg;
            break;
        case OPT_CHECK:
            out->command = TN_CMD_CHECK_CONFIG;
            out->config_path = optarg;
            break;
        case OPT_ROLE: {
            size_t i = 0;
            while (i < TN_SERVICE_COUNT && strcmp(names[i], optarg) != 0)
                i++;
            if (i == TN_SERVICE_COUNT)
                return complain("--role", optarg, "frontend, history, matching or worker");
            any_role = roles[i] = true;
            break;
        }
        case 'v':
            out->command = TN_CMD_VERSION;
            return 0;
        case 'h':
            return 0;
        default:
            fputs(usage_text, stderr);
            return 2;
        }
    }
    out->any_role = any_role;
    memcpy(out->roles, roles, sizeof(out->roles));
    if (out->command == TN_CMD_HELP || optind < argc) {
        fputs(usage_text, stderr);
        return 2;
    }
    return 0;
}

int tn_args_parse(int argc, char **argv, tn_args *out)
{
    memset(out, 0, sizeof(*out));
    int failed = argc > 1 && strcmp(argv[1], "start-dev") == 0 ? parse_dev(argc - 1, argv + 1, out)
                                                               : parse_serve(argc, argv, out);
    if (!failed && out->command == TN_CMD_HELP)
        fputs(usage_text, stdout);
    return failed;
}
