/* SPDX-License-Identifier: MIT */
/*
 * The entry of tenonctl, the tool of operators and plugin authors.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("tenonctl " PACKAGE_VERSION);
        return 0;
    }
    fprintf(stderr, "usage: tenonctl --version\n");
    return 2;
}
