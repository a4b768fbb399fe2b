/* SPDX-License-Identifier: MIT */
/* See reach.h. */
#include "membership/reach.h"

static void hear(tn_reach *reach, uint64_t now_ns, uint64_t pings)
{
    if (pings == reach->pings)
        return;
    if (!reach->pings || now_ns - reach->heard_ns > TN_REACH_PAUSE_NS)
        reach->since_ns = now_ns;
    reach->pings = pings;
    reach->heard_ns = now_ns;
}

bool tn_reach_serve(tn_reach *reach, uint64_t now_ns, uint64_t pings, uint32_t living)
{
    hear(reach, now_ns, pings);
    reach->serving = true;
    reach->out = living > 1 && !pings;
    return !reach->out;
}

void tn_reach_end(tn_reach *reach) { reach->serving = false; }

void tn_reach_refuted(tn_reach *reach, uint64_t now_ns)
{
    reach->refuted_ns[reach->refuted++ % TN_REACH_REFUTED] = now_ns;
}

/* The oldest of the last times is within the window. */
static bool accused(const tn_reach *reach, uint64_t now_ns)
{
    return reach->refuted >= TN_REACH_REFUTED &&
           now_ns - reach->refuted_ns[reach->refuted % TN_REACH_REFUTED] <= TN_REACH_WINDOW_NS;
}

tn_reach_turn tn_reach_look(tn_reach *reach, uint64_t now_ns, uint64_t pings, uint32_t living)
{
    hear(reach, now_ns, pings);
    if (!reach->serving)
        return TN_REACH_STAY;
    if (!reach->out) {
        reach->out =
            living > 1 && now_ns - reach->heard_ns > TN_REACH_SILENCE_NS && accused(reach, now_ns);
        return reach->out ? TN_REACH_LEAVE : TN_REACH_STAY;
    }
    bool steady = reach->pings && now_ns - reach->heard_ns <= TN_REACH_PAUSE_NS &&
                  now_ns - reach->since_ns >= TN_REACH_STEADY_NS;
    if (living > 1 && !steady)
        return TN_REACH_STAY;
    reach->out = false;
    return TN_REACH_RETURN;
}
