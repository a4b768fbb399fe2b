/* SPDX-License-Identifier: MIT */
/* The documents with the keys: read by a thread of the plugin's own, never on a loop.  All sources together make the
 * set; if one fails, the old set stays until it is too old.  An unknown key asks for a fetch out of turn, once in
 * ten seconds at most, and the calls that wait for it go on when it is over. */
#include "private.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RETRY_NS (10 * JW_SEC)

typedef struct document {
    char *p;
    size_t n;
    const jw_inst *inst;
} document;

static void say(void *user, const char *text)
{
    const jw_inst *inst = user;
    inst->host->log(inst, TN_LEVEL_WARN, text, strlen(text));
}

/* ---- one source --------------------------------------------------------------------------------- */

bool jw_source_lawful(tn_str source, const char **out_why)
{
    static const char *const schemes[] = {"https://", "http://", "file:///", "file://localhost/"};
    *out_why = "is no http:, https: or file: address";
    if (memchr(source.p, 0, source.n) || source.n > 2000)
        return false;
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (source.n > strlen(schemes[i]) && memcmp(source.p, schemes[i], strlen(schemes[i])) == 0)
            return true;
    return false;
}

static bool is_file(tn_str source) { return source.n > 7 && memcmp(source.p, "file://", 7) == 0; }

static size_t take(char *bytes, size_t size, size_t count, void *user)
{
    document *doc = user;
    size_t n = size * count;
    if (n > JW_DOCUMENT_MAX - doc->n)
        return 0; /* ends the transfer */
    char *grown = realloc(doc->p, doc->n + n + 1);
    if (!grown)
        return 0;
    doc->p = grown;
    memcpy(doc->p + doc->n, bytes, n);
    doc->n += n;
    return n;
}

static tn_status read_file(const char *uri, document *doc, tn_error *err)
{
    const char *path = strchr(uri + 7, '/');
    FILE *file = path ? fopen(path, "re") : NULL;
    if (!file)
        return jw_error(err, TN_EUNAVAILABLE, "%.150s: %s", uri, strerror(errno));
    char bytes[16384];
    tn_status status = TN_OK;
    for (size_t n; (n = fread(bytes, 1, sizeof bytes, file)) > 0 && status == TN_OK;)
        if (take(bytes, 1, n, doc) != n)
            status = jw_error(err, TN_EUNAVAILABLE, "%.150s: larger than 1 MiB", uri);
    if (status == TN_OK && ferror(file))
        status = jw_error(err, TN_EUNAVAILABLE, "%.150s: cannot be read", uri);
    fclose(file);
    return status;
}

static int still_wanted(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const document *doc = user;
    (void)a, (void)b, (void)c, (void)d;
    return atomic_load(&doc->inst->stopping);
}

static tn_status read_http(const jw_inst *inst, const char *uri, document *doc, tn_error *err)
{
    const jw_options *o = &inst->options;
    char why[CURL_ERROR_SIZE] = "", ca[4096];
    long code = 0;
    CURL *curl = curl_easy_init();
    if (!curl)
        return jw_error(err, TN_EUNAVAILABLE, "out of memory");
    curl_easy_setopt(curl, CURLOPT_URL, uri);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L); /* not to a file, not to another host */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)(o->timeout_ns / 1000000));
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, doc);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, still_wanted);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, doc);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, why);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "tenon");
    if (o->ca_file.n) {
        snprintf(ca, sizeof ca, "%.*s", (int)o->ca_file.n, o->ca_file.p);
        curl_easy_setopt(curl, CURLOPT_CAINFO, ca);
    }
    CURLcode rc = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    curl_easy_cleanup(curl);
    if (rc == CURLE_WRITE_ERROR)
        return jw_error(err, TN_EUNAVAILABLE, "%.150s: larger than 1 MiB", uri);
    if (rc != CURLE_OK)
        return jw_error(err, TN_EUNAVAILABLE, "%.120s: %.100s", uri,
                        why[0] ? why : curl_easy_strerror(rc));
    if (code != 200)
        return jw_error(err, TN_EUNAVAILABLE, "%.150s: answers %ld", uri, code);
    return TN_OK;
}

static tn_status read_source(jw_inst *inst, tn_str source, jw_keys *keys, tn_error *err)
{
    document doc = {.inst = inst};
    char uri[2048];
    tn_error why = {0};
    snprintf(uri, sizeof uri, "%.*s", (int)source.n, source.p);
    tn_status status =
        is_file(source) ? read_file(uri, &doc, err) : read_http(inst, uri, &doc, err);
    if (status == TN_OK &&
        !jw_keys_add(keys, doc.p ? doc.p : "", doc.n, inst->options.algs, say, inst, &why))
        status = jw_error(err, TN_EINVALID, "%.120s: %.100s", uri, why.text);
    if (doc.p)
        OPENSSL_cleanse(doc.p, doc.n); /* it may hold secrets (kty oct) */
    free(doc.p);
    return status;
}

/* ---- all ---------------------------------------------------------------------------------------- */

tn_status jw_fetch(jw_inst *inst, tn_error *err)
{
    jw_keys *keys = jw_keys_create(), *old = NULL;
    const jw_options *o = &inst->options;
    tn_status status = keys ? TN_OK : jw_error(err, TN_EUNAVAILABLE, "out of memory");
    for (size_t i = 0; status == TN_OK && i < o->n_sources; i++)
        status = read_source(inst, o->sources[i], keys, err);
    if (status == TN_OK && keys->n == 0)
        status = jw_error(err, TN_EUNAVAILABLE, "no source has a key that is fit");
    pthread_mutex_lock(&inst->lock);
    inst->tried_ns = inst->host->mono_ns();
    bool same = status == TN_OK && inst->keys &&
                memcmp(inst->keys->digest, keys->digest, sizeof keys->digest) == 0;
    if (status == TN_OK)
        atomic_store(&inst->fresh_until_ns, o->max_age_ns ? inst->tried_ns + o->max_age_ns : 0);
    if (status == TN_OK && !same) { /* what the caches have was checked with other keys */
        old = inst->keys;
        keys->generation = atomic_load(&inst->generation) + 1;
        inst->keys = keys;
        atomic_store(&inst->generation, keys->generation);
        keys = NULL;
    }
    pthread_mutex_unlock(&inst->lock);
    jw_keys_unref(old);
    jw_keys_unref(keys);
    inst->host->metric_add(inst->m_fetches, 1);
    if (status != TN_OK)
        inst->host->metric_add(inst->m_fetch_errors, 1);
    return status;
}

jw_keys *jw_keys_now(jw_inst *inst)
{
    pthread_mutex_lock(&inst->lock);
    jw_keys *keys = inst->keys;
    if (keys)
        atomic_fetch_add(&keys->refs, 1);
    pthread_mutex_unlock(&inst->lock);
    return keys;
}

/* ---- the thread --------------------------------------------------------------------------------- */

static uint64_t next_fetch_ns(const jw_inst *inst)
{
    uint64_t refresh = inst->options.refresh_ns;
    if (inst->asked)
        return 0;
    if (!refresh)
        return inst->failing && !inst->keys ? inst->tried_ns + RETRY_NS : UINT64_MAX;
    if (inst->failing && refresh > RETRY_NS)
        refresh = RETRY_NS;
    return inst->tried_ns + refresh;
}

/* False: the end.  With the lock held. */
static bool wait_for_turn(jw_inst *inst)
{
    while (!atomic_load(&inst->stopping)) {
        uint64_t due = next_fetch_ns(inst);
        if (due <= inst->host->mono_ns())
            return true;
        if (due == UINT64_MAX) {
            pthread_cond_wait(&inst->wake, &inst->lock);
            continue;
        }
        struct timespec at = {.tv_sec = (time_t)(due / JW_SEC), .tv_nsec = (long)(due % JW_SEC)};
        pthread_cond_timedwait(&inst->wake, &inst->lock, &at);
    }
    return false;
}

static void tell(jw_inst *inst, tn_status status, const tn_error *err)
{
    char text[400];
    if (status != TN_OK && !inst->failing)
        snprintf(text, sizeof text,
                 "cannot read the keys: %s; those at hand stay in use until they are too old",
                 err->text);
    else if (status == TN_OK && inst->failing)
        snprintf(text, sizeof text, "the keys could be read again");
    else
        return;
    inst->host->log(inst, status == TN_OK ? TN_LEVEL_INFO : TN_LEVEL_ERROR, text, strlen(text));
}

static void wake_all(jw_waiter *waiters)
{
    for (jw_waiter *next; waiters; waiters = next) {
        next = waiters->next;
        const tn_host *host = waiters->ctx->inst->host;
        if (host->post(waiters->ctx->loop, jw_wake, waiters) == TN_OK)
            continue;
        tn_error err;
        jw_error(&err, TN_EDENIED, "token refused: out of memory");
        host->op_finish(waiters->op, TN_EDENIED, &err);
    }
}

void *jw_fetch_main(void *arg)
{
    jw_inst *inst = arg;
    pthread_mutex_lock(&inst->lock);
    while (wait_for_turn(inst)) {
        inst->fetching = true;
        inst->asked = false;
        pthread_mutex_unlock(&inst->lock);
        tn_error err = {0};
        tn_status status = jw_fetch(inst, &err);
        tell(inst, status, &err);
        pthread_mutex_lock(&inst->lock);
        inst->failing = status != TN_OK;
        inst->fetching = false;
        jw_waiter *waiters = inst->waiters;
        inst->waiters = NULL;
        inst->n_waiters = 0;
        pthread_mutex_unlock(&inst->lock);
        wake_all(waiters);
        pthread_mutex_lock(&inst->lock);
    }
    jw_waiter *waiters = inst->waiters;
    inst->waiters = NULL;
    pthread_mutex_unlock(&inst->lock);
    wake_all(waiters);
    return NULL;
}

bool jw_fetch_ask(jw_inst *inst, jw_waiter *waiter)
{
    uint64_t now = inst->host->mono_ns();
    bool taken = false;
    pthread_mutex_lock(&inst->lock);
    bool may_ask =
        inst->options.refresh_ns && (!inst->asked_ns || now - inst->asked_ns >= JW_ASK_NS);
    /* One that is under way may have begun before the key was there; it is waited for all the same. */
    if (inst->started && !atomic_load(&inst->stopping) && inst->n_waiters < JW_WAITERS_MAX &&
        (inst->asked || inst->fetching || may_ask)) {
        waiter->next = inst->waiters;
        inst->waiters = waiter;
        inst->n_waiters++;
        taken = true;
        if (!inst->asked && !inst->fetching) {
            inst->asked = true;
            inst->asked_ns = now;
            pthread_cond_signal(&inst->wake);
        }
    }
    pthread_mutex_unlock(&inst->lock);
    return taken;
}
