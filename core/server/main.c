/* SPDX-License-Identifier: MIT */
/* The entry of tenond. */
#include "config.h"

#include <stdio.h>

#include "server/server.h"

static int check_config(const char *path)
{
    tn_config_problems *problems = tn_config_problems_create();
    tn_settings *settings = NULL;
    tn_tls *tls = NULL;
    tn_status status = tn_settings_load(path, problems, &settings);
    if (status == TN_OK)
        status = tn_tls_open(&settings->tls, problems, &tls);
    tn_config_problems_print(problems);
    if (status == TN_OK)
        printf("%s: the server's settings are in order; plugins look at their own at start\n",
               path);
    tn_tls_close(tls);
    tn_settings_destroy(settings);
    tn_config_problems_destroy(problems);
    return status == TN_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
    tn_args args;
    int failed = tn_args_parse(argc, argv, &args);
    if (failed)
        return failed;
    switch (args.command) {
    case TN_CMD_VERSION:
        puts("tenond " PACKAGE_VERSION);
        return 0;
    case TN_CMD_HELP:
        return 0;
    case TN_CMD_CHECK_CONFIG:
        return check_config(args.config_path);
    case TN_CMD_START_DEV:
    case TN_CMD_SERVE:
        break;
    }
    return tn_server_run(&args);
}
