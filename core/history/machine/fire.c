/* SPDX-License-Identifier: MIT */
/* Time passes: everything of a run that is due happens in one transition. */
#include "history/machine/machine.h"

#include "history/machine/nexus.h"
#include "history/machine/object.h"
#include "history/machine/priv.h"
#include "proto/proto.h"

static bool is_due(uint64_t at_ns, uint64_t now_ns) { return at_ns && at_ns <= now_ns; }

static void time_out_run(tn_tx *tx)
{
    tn_ms *ms = tx->ms;
    Temporal__Api__Failure__V1__Failure *failure;
    int32_t retry_state = 3; /* TIMEOUT */
    char new_run_id[37] = "";

    if (!is_due(ms->execution_expire_ns, tx->now_ns)) {
        failure = TN_MSG(tx->arena, temporal__api__failure__v1__failure);
        failure->message = tn_tx_text(tx, TN_STR("workflow timeout"));
        failure->source = tn_tx_text(tx, TN_STR("Server"));
        failure->failure_info_case =
            TEMPORAL__API__FAILURE__V1__FAILURE__FAILURE_INFO_TIMEOUT_FAILURE_INFO;
        failure->timeout_failure_info =
            TN_MSG(tx->arena, temporal__api__failure__v1__timeout_failure_info);
        failure->timeout_failure_info->timeout_type = 1; /* START_TO_CLOSE */
        tn_tx_next_by_retry_or_cron(tx, 7, failure, NULL, new_run_id, &retry_state);
    }
    tn_tx_time_out_run(tx, retry_state, new_run_id);
}

const tn_fault *tn_machine_fire(tn_tx *tx)
{
    tn_ms *ms = tx->ms;
    bool wanted;

    if (!ms->started.n || !tn_ms_running(ms))
        return NULL;
    if (ms->kind) {
        ms->kind->fire(tx);
        return NULL;
    }
    if (is_due(ms->execution_expire_ns, tx->now_ns) || is_due(ms->run_expire_ns, tx->now_ns)) {
        time_out_run(tx);
        return NULL;
    }
    wanted = tn_fire_timers(tx);
    wanted = tn_fire_activities(tx) || wanted;
    wanted = tn_fire_nexus(tx) || wanted;
    if (tn_ms_backoff_pending(ms) && !ms->held && ms->status != TN_STATUS_PAUSED &&
        is_due(ms->first_wft_backoff_until_ns, tx->now_ns)) {
        tn_tx_schedule_wft_anyhow(tx);
        return NULL;
    }
    if (tn_ms_wft_deadline_ns(ms) <= tx->now_ns) {
        tn_tx_time_out_wft(tx, !tn_ms_wft_started(ms));
        tn_tx_schedule_wft_anyhow(tx);
    } else if (wanted) {
        tn_tx_schedule_wft(tx);
    }
    return NULL;
}
