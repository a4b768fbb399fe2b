/* SPDX-License-Identifier: MIT */
/* persistence_kit and visibility_kit PLUGIN.so STANZA [CASE]...: what `tenonctl plugin check` runs for that kind, for
 * scripts that give the plugin's keys on the command line. */
#include <stdio.h>

#include "tools/check/kit.h"

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s PLUGIN.so STANZA [CASE]...\n", argv[0]);
        return 2;
    }
    kit_configure(argv[1], argv[2]);
    if (strstr(argv[0], "visibility"))
        return kit_run("plugin visibility", kit_visibility_cases, kit_visibility_count, argc - 3,
                       argv + 3);
    return kit_run("plugin", kit_persistence_cases, kit_persistence_count, argc - 3, argv + 3);
}
