/* SPDX-License-Identifier: MIT */
/* The head of an HTTP/1 request on any bytes, whole and as it would come in pieces. */
#include "metrics/private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tn_http_request request = {0};
    int taken = tn_http_parse(data, size, &request);
    TN_ASSERT(taken <= (int)size && taken >= -505);
    if (taken > 0) {
        TN_ASSERT(request.method.n && request.target.n);
        TN_ASSERT((const uint8_t *)request.target.p + request.target.n <= data + taken);
        /* The head alone says the same, and one byte less is not whole. */
        tn_http_request again = {0};
        TN_ASSERT(tn_http_parse(data, (size_t)taken, &again) == taken);
        TN_ASSERT(tn_str_eq(again.target, request.target) &&
                  again.keep_alive == request.keep_alive);
        TN_ASSERT(tn_http_parse(data, (size_t)taken - 1, &again) == 0);
    }
    return 0;
}
