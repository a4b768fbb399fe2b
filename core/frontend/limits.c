/* SPDX-License-Identifier: MIT */
/* Before a method runs: client versions, request rates, long-running calls. */
#include "frontend/priv.h"

const tn_fault *tn_front_admit(tn_fcall *f, const tn_fmethod *method)
{
    (void)f, (void)method;
    return NULL;
}

void tn_front_release(tn_fcall *f, const tn_fmethod *method) { (void)f, (void)method; }
