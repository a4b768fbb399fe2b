/* SPDX-License-Identifier: MIT */
/* A library that few need is loaded when somebody does: it costs the others neither memory nor time at the start. */
#ifndef TN_PLUGIN_FOREIGN_H
#define TN_PLUGIN_FOREIGN_H

#include "base/base.h"

typedef struct tn_foreign_symbol {
    const char *name;
    void **at; /* a function pointer of the caller's, filled in */
} tn_foreign_symbol;

/* [any, once a library] Loads `file` (a name that the system's loader finds, "libx.so.4") for the rest of the process's
 * life.  TN_EUNAVAILABLE: it or one of its symbols is not there, err says which. */
tn_status tn_foreign_load(const char *file, const tn_foreign_symbol *symbols, size_t count,
                          tn_error *err) TN_WARN_UNUSED;

#endif
