/* SPDX-License-Identifier: MIT */
/* A build without libcurl. */
#include "http/client.h"

void tn_http_post(tn_http_out *out)
{
    out->problem = "this server was built without libcurl and can reach no addresses outside";
    out->done(out);
}
