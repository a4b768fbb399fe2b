/* SPDX-License-Identifier: MIT */
/* One connection that waits for its answers [main]: for open, which has to know before the server starts
 * whether the store is there and durable, and for the schema tool. */
#include "private.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static tn_status wait_for(rd_sync *sync, bool has_output, uint64_t deadline_ns, tn_error *err)
{
    for (;;) {
        uint64_t now = sync->host->mono_ns();
        if (now >= deadline_ns)
            return rd_error(err, TN_EUNAVAILABLE, ETIMEDOUT, "%.100s:%u: no answer in time",
                            sync->at.host, sync->at.port);
        uint32_t events = rd_wire_events(&sync->wire, has_output);
        struct pollfd p = {.fd = sync->wire.fd,
                           .events = (short)((events & TN_FD_READ ? POLLIN : 0) |
                                             (events & TN_FD_WRITE ? POLLOUT : 0))};
        uint64_t left_ms = (deadline_ns - now) / RD_MS + 1;
        int rc = poll(&p, 1, left_ms > 60000 ? 60000 : (int)left_ms);
        if (rc > 0)
            return TN_OK;
        if (rc < 0 && errno != EINTR)
            return rd_error(err, TN_EUNAVAILABLE, errno, "poll: %s", strerror(errno));
    }
}

static tn_status connect_one(rd_sync *sync, const rd_address *address, tn_error *err)
{
    uint64_t deadline = sync->host->mono_ns() + sync->options->connect_ns;
    tn_error why = {0};
    tn_status status = rd_wire_open(&sync->wire, sync->options, &sync->at, address, err);
    while (status == TN_OK) {
        status = rd_wire_advance(&sync->wire, &why);
        if (status == TN_OK)
            return TN_OK;
        if (status != TN_PENDING) {
            status = rd_error(err, status, why.vendor_code, "%.100s:%u: %.120s", sync->at.host,
                              sync->at.port, why.text);
            break;
        }
        status = wait_for(sync, false, deadline, err);
        if (status != TN_OK && sync->wire.shaking && !sync->wire.connecting)
            rd_error(err, status, 0, "%.100s:%u: no TLS handshake in time (is this a TLS port?)",
                     sync->at.host, sync->at.port);
    }
    rd_wire_close(&sync->wire);
    return status;
}

static tn_status connect_any(rd_sync *sync, const rd_endpoint *endpoint, tn_error *err)
{
    rd_addresses found = {0};
    sync->at = *endpoint;
    sync->wire.fd = -1;
    tn_status status = rd_resolve(endpoint, &found, err);
    if (status != TN_OK)
        return status;
    for (uint32_t i = 0; i < found.n; i++) {
        status = connect_one(sync, &found.list[i], err);
        if (status == TN_OK)
            break;
    }
    if (status == TN_OK && !(sync->reader = redisReaderCreate()))
        status = rd_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    return status;
}

void rd_sync_close(rd_sync *sync)
{
    rd_wire_close(&sync->wire);
    if (sync->reader)
        redisReaderFree(sync->reader);
    sync->reader = NULL;
}

static tn_status send_all(rd_sync *sync, rd_buf *out, uint64_t deadline_ns, tn_error *err)
{
    if (out->failed)
        return rd_error(err, TN_EUNAVAILABLE, 0, "out of memory");
    while (out->at < out->n) {
        ssize_t put = rd_wire_write(&sync->wire, out->p + out->at, out->n - out->at);
        if (put > 0) {
            out->at += (size_t)put;
            continue;
        }
        tn_status status =
            put == RD_AGAIN ? wait_for(sync, true, deadline_ns, err)
                            : rd_error(err, TN_EUNAVAILABLE, 0, "%.100s:%u: the connection broke",
                                       sync->at.host, sync->at.port);
        if (status != TN_OK)
            return status;
    }
    out->at = out->n = 0;
    return TN_OK;
}

static tn_status receive(rd_sync *sync, redisReply **out, uint64_t deadline_ns, tn_error *err)
{
    char bytes[16384];
    for (;;) {
        void *reply = NULL;
        if (redisReaderGetReply(sync->reader, &reply) != REDIS_OK)
            return rd_error(err, TN_EUNAVAILABLE, 0, "%.100s:%u: this is not Redis: %.60s",
                            sync->at.host, sync->at.port, sync->reader->errstr);
        if (reply) {
            *out = reply;
            return TN_OK;
        }
        ssize_t got = rd_wire_read(&sync->wire, bytes, sizeof bytes);
        if (got > 0) {
            redisReaderFeed(sync->reader, bytes, (size_t)got);
            continue;
        }
        tn_status status =
            got == RD_AGAIN ? wait_for(sync, false, deadline_ns, err)
                            : rd_error(err, TN_EUNAVAILABLE, 0, "%.100s:%u: the connection broke%s",
                                       sync->at.host, sync->at.port,
                                       sync->options->tls ? " (does it speak TLS?)" : "");
        if (status != TN_OK)
            return status;
    }
}

tn_status rd_sync_ask(rd_sync *sync, rd_buf *command, redisReply **out, tn_error *err)
{
    uint64_t deadline = sync->host->mono_ns() + sync->options->command_ns;
    tn_status status = send_all(sync, command, deadline, err);
    return status == TN_OK ? receive(sync, out, deadline, err) : status;
}

tn_status rd_sync_words(rd_sync *sync, redisReply **out, tn_error *err, ...)
{
    rd_buf command = {0};
    const char *words[16];
    size_t n = 0;
    va_list args;
    va_start(args, err);
    while (n < 16 && (words[n] = va_arg(args, const char *)))
        n++;
    va_end(args);
    rd_put_command(&command, n);
    for (size_t i = 0; i < n; i++)
        rd_put_word(&command, words[i]);
    tn_status status = rd_sync_ask(sync, &command, out, err);
    rd_buf_done(&command);
    return status;
}

static tn_status hello(rd_sync *sync, rd_target target, rd_told *told, tn_error *err)
{
    rd_buf out = {0};
    tn_error why = {0};
    uint64_t deadline = sync->host->mono_ns() + sync->options->command_ns;
    uint32_t n = rd_hello_put(sync->options, target, &out);
    tn_status status = send_all(sync, &out, deadline, err);
    for (uint32_t i = 0; status == TN_OK && i < n; i++) {
        redisReply *reply = NULL;
        status = receive(sync, &reply, deadline, err);
        if (status != TN_OK)
            break;
        status = rd_hello_check(sync->options, target, i, reply, told, &why);
        freeReplyObject(reply);
        if (status != TN_OK)
            rd_error(err, status, why.vendor_code, "%.80s:%u: %s", sync->at.host, sync->at.port,
                     why.text);
    }
    rd_buf_done(&out);
    return status;
}

static tn_status open_at(rd_sync *sync, const rd_endpoint *endpoint, rd_target target,
                         rd_told *told, tn_error *err)
{
    tn_status status = connect_any(sync, endpoint, err);
    if (status == TN_OK)
        status = hello(sync, target, told, err);
    if (status != TN_OK)
        rd_sync_close(sync);
    return status;
}

tn_status rd_sync_open(rd_sync *sync, const tn_host *host, const rd_options *options,
                       const rd_endpoint *endpoint, rd_target target, rd_told *told, tn_error *err)
{
    *sync = (rd_sync){.host = host, .options = options, .wire.fd = -1};
    if (endpoint)
        return open_at(sync, endpoint, target, told, err);
    tn_status status = TN_EUNAVAILABLE;
    for (uint32_t i = 0; i < options->n_seeds; i++) {
        if (options->mode != RD_SENTINEL) {
            status = open_at(sync, &options->seeds[i], target, told, err);
        } else {
            status = open_at(sync, &options->seeds[i], RD_TO_SENTINEL, told, err);
            if (status == TN_OK) {
                rd_endpoint master = told->master;
                rd_sync_close(sync);
                status = open_at(sync, &master, target, told, err);
            }
        }
        if (status == TN_OK || status == TN_EINVALID)
            return status;
    }
    return status;
}
