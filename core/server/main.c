/* SPDX-License-Identifier: MIT */
/*
 * The entry of tenond.  Until the roles are here it answers --version only.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("tenond " PACKAGE_VERSION);
        return 0;
    }
    fprintf(stderr, "usage: tenond --version\n");
    return 2;
}
