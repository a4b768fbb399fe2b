/* SPDX-License-Identifier: MIT */
/* The API as JSON over HTTP: every method with a google.api.http binding, by the routes that the .proto files give, and
 * the raw routes of others (tn_http_register, rpc/http.h).
 *
 * A request enters the API as the same call that gRPC makes: one dispatch, one authorization, one set of limits. */
#ifndef TN_HTTP_HTTP_H
#define TN_HTTP_HTTP_H

#include "rpc/http.h"

typedef struct tn_http_settings {
    /* Headers besides ours that go into the API under their own names; a '*' at the end stands for any rest. */
    const char *const *forwarded;
    size_t n_forwarded;
} tn_http_settings;

/* [main] Before the port is opened, and after everybody has registered raw routes; the settings are copied. */
void tn_http_prepare(const tn_http_settings *settings);
/* Is the text one of a list with commas between?  A '*' stands for any text. */
bool tn_http_listed(tn_str list, tn_str text);
/* For tn_rpc_options.http. */
const tn_http_hooks *tn_http_api(void);

#endif
