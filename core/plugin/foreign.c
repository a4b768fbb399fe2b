/* SPDX-License-Identifier: MIT */
/* Foreign libraries by dlopen: see foreign.h. */
#include "plugin/foreign.h"

#include <dlfcn.h>

tn_status tn_foreign_load(const char *file, const tn_foreign_symbol *symbols, size_t count,
                          tn_error *err)
{
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);

    if (!library)
        return tn_error_set(err, TN_EUNAVAILABLE, "%s", dlerror());
    for (size_t i = 0; i < count; i++) {
        *symbols[i].at = dlsym(library, symbols[i].name);
        if (!*symbols[i].at) {
            dlclose(library);
            return tn_error_set(err, TN_EUNAVAILABLE, "%s has no %s", file, symbols[i].name);
        }
    }
    return TN_OK;
}
