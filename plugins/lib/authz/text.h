/* SPDX-License-Identifier: MIT */
/* Whether bytes are text. */
#ifndef TN_AUTHZ_TEXT_H
#define TN_AUTHZ_TEXT_H

#include <stdbool.h>
#include <stddef.h>

bool az_utf8(const char *p, size_t n);
bool az_printable(const char *p, size_t n); /* and no control characters of ASCII */

#endif
