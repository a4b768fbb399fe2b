/* SPDX-License-Identifier: MIT */
/* The process's TLS: a generation of contexts a side, read again from its files while the server runs, and the dates
 * of all certificates.  What cannot be read or does not fit leaves the old generation in place. */
#include "rpc/tls.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "rpc/tls_private.h"

struct tn_tls {
    _Atomic uint32_t refs; /* the owner, and a reading on its way */
    const tn_settings_tls *settings;
    tn_tls_side sides[TN_TLS_USE_COUNT];
    bool has[TN_TLS_USE_COUNT];
    bool watching, reading, again;
    const tn_settings_tls *read_from; /* of the reading on its way */
    tn_loop_timer refresh, check;
    tn_counter *renewed, *refused;
    tn_gauge *expired, *expiring;
};

/* ---- generations ---- */

rpc_tls_gen *rpc_tls_gen_ref(tn_tls_side *side)
{
    pthread_mutex_lock(&side->lock);
    rpc_tls_gen *gen = side->gen;
    atomic_fetch_add_explicit(&gen->refs, 1, memory_order_relaxed);
    pthread_mutex_unlock(&side->lock);
    return gen;
}

void rpc_tls_gen_unref(rpc_tls_gen *gen)
{
    if (!gen || atomic_fetch_sub_explicit(&gen->refs, 1, memory_order_acq_rel) != 1)
        return;
    SSL_CTX_free(gen->ctx);
    for (size_t i = 0; i < gen->n_hosts; i++) {
        SSL_CTX_free(gen->hosts[i].ctx);
        free(gen->hosts[i].name);
    }
    free(gen->hosts);
    free(gen->dates);
    free(gen->server_name);
    OPENSSL_cleanse(gen->tickets, sizeof(gen->tickets));
    pthread_mutex_destroy(&gen->ticket_lock);
    free(gen);
}

static void swap(tn_tls_side *side, rpc_tls_gen *gen)
{
    pthread_mutex_lock(&side->lock);
    rpc_tls_gen *old = side->gen;
    side->gen = gen;
    side->epoch++;
    pthread_mutex_unlock(&side->lock);
    rpc_tls_gen_unref(old);
}

/* The same, unless the side has got another generation since. */
static void swap_at(tn_tls_side *side, rpc_tls_gen *gen, uint32_t epoch)
{
    pthread_mutex_lock(&side->lock);
    bool in_time = side->epoch == epoch;
    rpc_tls_gen *old = in_time ? side->gen : gen;
    if (in_time)
        side->gen = gen;
    pthread_mutex_unlock(&side->lock);
    rpc_tls_gen_unref(old);
}

/* ---- dates ---- */

static const char *day(int64_t seconds, char out[32])
{
    time_t t = (time_t)seconds;
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return out;
}

static void log_date(const rpc_tls_date *date, bool error, const char *what)
{
    char when[32];
    TN_LOG(error ? TN_LOG_ERROR : TN_LOG_WARN, "rpc", what, TN_LOG_Z("use", date->use),
           TN_LOG_Z("subject", date->subject), TN_LOG_Z("sha256", date->fingerprint),
           TN_LOG_Z("not_after", day(date->not_after, when)));
}

static void look_at_dates(tn_tls *tls)
{
    const tn_settings_tls *set = tls->settings;
    int64_t now = (int64_t)time(NULL);
    int64_t warning = (int64_t)((set->warning_ns ? set->warning_ns : set->error_ns) / TN_SEC);
    int64_t error = (int64_t)(set->error_ns / TN_SEC);
    uint64_t expired = 0, expiring = 0;
    for (size_t i = 0; i < TN_TLS_USE_COUNT; i++) {
        rpc_tls_gen *gen = tls->has[i] ? rpc_tls_gen_ref(&tls->sides[i]) : NULL;
        for (size_t k = 0; gen && k < gen->n_dates; k++) {
            const rpc_tls_date *date = &gen->dates[k];
            int64_t left = date->not_after - now;
            if (left <= 0)
                log_date(date, true, "a certificate has expired");
            else if (left <= warning || left <= error)
                log_date(date, left <= error, "a certificate is about to expire");
            expired += left <= 0;
            expiring += left > 0 && (left <= warning || left <= error);
        }
        rpc_tls_gen_unref(gen);
    }
    tn_gauge_set(tls->expired, (double)expired);
    tn_gauge_set(tls->expiring, (double)expiring);
}

static void show_dates(const rpc_tls_gen *gen)
{
    for (size_t k = 0; k < gen->n_dates; k++) {
        tn_label use = TN_LABEL_Z("use", gen->dates[k].use);
        if (!gen->dates[k].ca)
            tn_gauge_set(tn_metrics_gauge("tenon_tls_certificate_not_after_seconds",
                                          "When a port's certificate ends, in seconds since 1970",
                                          &use, 1),
                         (double)gen->dates[k].not_after);
    }
}

/* ---- reading again ---- */

static void unref(tn_tls *tls)
{
    if (atomic_fetch_sub_explicit(&tls->refs, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < TN_TLS_USE_COUNT; i++) {
        rpc_tls_gen_unref(tls->sides[i].gen);
        pthread_mutex_destroy(&tls->sides[i].lock);
    }
    free(tls);
}

static void complain(tn_tls *tls, const tn_config_problems *problems)
{
    const char *text;
    for (size_t i = 0; (text = tn_config_problems_text(problems, i)) != NULL; i++)
        TN_LOG(TN_LOG_ERROR, "rpc", "certificates cannot be renewed, the old ones stay in use",
               TN_LOG_Z("why", text));
    tn_counter_inc(tls->refused);
}

static const char *const side_names[] = {"frontend", "internode", "internode.client",
                                         "frontend.client"};

static void say_renewed(tn_tls *tls, tn_tls_use use, const rpc_tls_gen *gen)
{
    show_dates(gen);
    tn_counter_inc(tls->renewed);
    TN_LOG(TN_LOG_INFO, "rpc", "certificates have been renewed", TN_LOG_Z("side", side_names[use]));
}

static void renew(tn_tls *tls, tn_tls_use use)
{
    tn_config_problems *problems = tn_config_problems_create();
    tn_tls_side *side = &tls->sides[use];
    pthread_mutex_lock(&side->lock);
    uint32_t epoch = side->epoch; /* a reload from here on knows better */
    pthread_mutex_unlock(&side->lock);
    rpc_tls_gen *gen = rpc_tls_load(tls->read_from, use, problems);
    rpc_tls_gen *now = rpc_tls_gen_ref(side);
    if (!gen) {
        complain(tls, problems);
    } else if (memcmp(gen->digest, now->digest, sizeof(gen->digest)) == 0) {
        rpc_tls_gen_unref(gen);
    } else {
        say_renewed(tls, use, gen);
        swap_at(side, gen, epoch);
    }
    rpc_tls_gen_unref(now);
    tn_config_problems_destroy(problems);
}

/* [pool] */
static void read_work(void *user)
{
    tn_tls *tls = user;
    for (size_t i = 0; i < TN_TLS_USE_COUNT; i++)
        if (tls->has[i])
            renew(tls, (tn_tls_use)i);
    /* the pool's threads end with the process: what the library keeps for them would count as lost */
    OPENSSL_thread_stop();
}

static void read_done(void *user)
{
    tn_tls *tls = user;
    tls->reading = false;
    if (tls->watching && tls->settings->refresh_ns)
        tn_loop_timer_start(&tls->refresh, tn_now_mono_ns() + tls->settings->refresh_ns);
    if (tls->watching && tls->again)
        tn_tls_look_now(tls);
    unref(tls);
}

void tn_tls_look_now(void *user)
{
    tn_tls *tls = user;
    if (!tls || !tls->watching)
        return;
    tls->again = tls->reading;
    if (tls->reading)
        return;
    tls->reading = true;
    tls->read_from = tls->settings;
    atomic_fetch_add_explicit(&tls->refs, 1, memory_order_relaxed);
    if (tn_loop_offload(read_work, read_done, tls) != TN_OK)
        read_done(tls);
}

static void refresh_fire(tn_loop_timer *timer)
{
    tn_tls_look_now(TN_CONTAINER_OF(timer, tn_tls, refresh));
}

static void check_fire(tn_loop_timer *timer)
{
    tn_tls *tls = TN_CONTAINER_OF(timer, tn_tls, check);
    look_at_dates(tls);
    tn_loop_timer_start(&tls->check, tn_now_mono_ns() + tls->settings->check_ns);
}

void tn_tls_watch(void *user)
{
    tn_tls *tls = user;
    tls->watching = true;
    tn_loop_timer_init(&tls->refresh, refresh_fire);
    tn_loop_timer_init(&tls->check, check_fire);
    if (tls->settings->refresh_ns)
        tn_loop_timer_start(&tls->refresh, tn_now_mono_ns() + tls->settings->refresh_ns);
    if (tls->settings->check_ns)
        check_fire(&tls->check);
}

void tn_tls_unwatch(void *user)
{
    tn_tls *tls = user;
    if (!tls->watching)
        return;
    tls->watching = false;
    tn_loop_timer_stop(&tls->refresh);
    tn_loop_timer_stop(&tls->check);
}

/* ---- a reload ---- */

struct tn_tls_fresh {
    tn_tls *tls;
    const tn_settings_tls *settings;
    rpc_tls_gen *gens[TN_TLS_USE_COUNT]; /* NULL: the side keeps what it has */
};

static void sides_of(const tn_settings_tls *settings, bool has[TN_TLS_USE_COUNT])
{
    has[TN_TLS_FRONTEND] = has[TN_TLS_FRONTEND_CLIENT] = settings->frontend.server.at;
    has[TN_TLS_INTERNODE] = has[TN_TLS_INTERNODE_CLIENT] = settings->internode.server.at;
}

bool tn_tls_same_sides(const tn_tls *tls, const tn_settings_tls *settings)
{
    bool has[TN_TLS_USE_COUNT];
    sides_of(settings, has);
    for (size_t i = 0; i < TN_TLS_USE_COUNT; i++)
        if (has[i] != (tls && tls->has[i]))
            return false;
    return true;
}

tn_status tn_tls_prepare(tn_tls *tls, const tn_settings_tls *settings, bool same_settings,
                         tn_config_problems *problems, tn_tls_fresh **out)
{
    size_t before = tn_config_problems_count(problems);
    *out = NULL;
    if (!tls)
        return TN_OK;
    tn_tls_fresh *fresh = tn_xcalloc(1, sizeof(*fresh));
    fresh->tls = tls;
    fresh->settings = settings;
    for (size_t i = 0; i < TN_TLS_USE_COUNT; i++) {
        if (!tls->has[i] ||
            (i >= TN_TLS_INTERNODE_CLIENT && tn_config_problems_count(problems) != before))
            continue;
        rpc_tls_gen *gen = rpc_tls_load(settings, (tn_tls_use)i, problems);
        rpc_tls_gen *now = rpc_tls_gen_ref(&tls->sides[i]);
        if (gen && same_settings && memcmp(gen->digest, now->digest, sizeof(gen->digest)) == 0) {
            rpc_tls_gen_unref(gen);
            gen = NULL;
        }
        rpc_tls_gen_unref(now);
        fresh->gens[i] = gen;
    }
    if (tn_config_problems_count(problems) != before) {
        tn_tls_discard(fresh);
        return TN_EINVALID;
    }
    *out = fresh;
    return TN_OK;
}

void tn_tls_discard(tn_tls_fresh *fresh)
{
    for (size_t i = 0; fresh && i < TN_TLS_USE_COUNT; i++)
        rpc_tls_gen_unref(fresh->gens[i]);
    free(fresh);
}

void tn_tls_commit(void *user)
{
    tn_tls_fresh *fresh = user;
    tn_tls *tls = fresh ? fresh->tls : NULL;
    if (!tls)
        return;
    tls->settings = fresh->settings;
    for (size_t i = 0; i < TN_TLS_USE_COUNT; i++) {
        if (!fresh->gens[i])
            continue;
        say_renewed(tls, (tn_tls_use)i, fresh->gens[i]);
        swap(&tls->sides[i], fresh->gens[i]);
    }
    free(fresh);
    if (tls->watching) { /* other intervals, perhaps */
        tn_tls_unwatch(tls);
        tn_tls_watch(tls);
    }
}

bool tn_tls_idle(const tn_tls *tls) { return !tls || !tls->reading; }

/* ---- the whole ---- */

tn_status tn_tls_open(const tn_settings_tls *settings, tn_config_problems *problems, tn_tls **out)
{
    bool has[TN_TLS_USE_COUNT], any = false;
    sides_of(settings, has);
    size_t before = tn_config_problems_count(problems);
    tn_tls *tls = tn_xcalloc(1, sizeof(*tls));
    atomic_init(&tls->refs, 1);
    tls->settings = settings;
    for (size_t i = 0; i < TN_TLS_USE_COUNT; i++) {
        TN_ASSERT(pthread_mutex_init(&tls->sides[i].lock, NULL) == 0);
        tls->sides[i].use = (tn_tls_use)i;
        tls->has[i] = has[i];
        any = any || has[i];
        /* A client uses its server's files: their problems are told once. */
        if (has[i] && (i < TN_TLS_INTERNODE_CLIENT || tn_config_problems_count(problems) == before))
            tls->sides[i].gen = rpc_tls_load(settings, (tn_tls_use)i, problems);
    }
    *out = NULL;
    if (!any || tn_config_problems_count(problems) != before) {
        unref(tls);
        return tn_config_problems_count(problems) != before ? TN_EINVALID : TN_OK;
    }
    tn_label ok = TN_LABEL_Z("result", "renewed"), bad = TN_LABEL_Z("result", "refused");
    tls->renewed = tn_metrics_counter("tenon_tls_renewals",
                                      "Times that changed certificates were read", &ok, 1);
    tls->refused = tn_metrics_counter("tenon_tls_renewals",
                                      "Times that changed certificates were read", &bad, 1);
    tls->expired = tn_metrics_gauge("tenon_tls_certificates_expired",
                                    "Certificates whose time is over", NULL, 0);
    tls->expiring = tn_metrics_gauge("tenon_tls_certificates_expiring",
                                     "Certificates within the warning window", NULL, 0);
    for (size_t i = 0; i < TN_TLS_USE_COUNT; i++)
        if (has[i])
            show_dates(tls->sides[i].gen);
    *out = tls;
    return TN_OK;
}

void tn_tls_close(tn_tls *tls)
{
    if (tls)
        unref(tls);
}

tn_tls_side *tn_tls_get(tn_tls *tls, tn_tls_use use)
{
    return tls && tls->has[use] ? &tls->sides[use] : NULL;
}
