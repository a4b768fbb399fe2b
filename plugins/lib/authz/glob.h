/* SPDX-License-Identifier: MIT */
/* Patterns of names, for the plugins that decide by them: a star stands for any bytes, none included; nothing else is
 * special.  A backslash takes the meaning from * ? [ \; those four without one are refused but for the star, since
 * whoever writes them means something that they would not do.
 *
 * A match takes time in proportion to pattern and text together, whatever both are: the text between two stars is looked
 * for from the left, once. */
#ifndef TN_AUTHZ_GLOB_H
#define TN_AUTHZ_GLOB_H

#include <stdbool.h>
#include <stddef.h>

typedef struct az_glob az_glob;
/* One piece of memory, for free().  NULL: *out_why says what is wrong (static text). */
az_glob *az_glob_compile(const char *pattern, size_t n, const char **out_why);
bool az_glob_match(const az_glob *glob, const char *text, size_t n);

/* The same part by part: pattern and text have as many parts, split at `at`, and each matches; a last part "**" of the
 * pattern stands for one part or more.  fold: ASCII letters are alike (text must be folded by the caller). */
typedef struct az_path az_path;
az_path *az_path_compile(const char *pattern, size_t n, char at, bool fold, const char **out_why);
bool az_path_match(const az_path *path, const char *text, size_t n);
void az_path_free(az_path *path);

#endif
