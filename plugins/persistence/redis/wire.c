/* SPDX-License-Identifier: MIT */
/* A stream to a server that never blocks: TCP or a socket of this machine, with or without TLS.  Debian's
 * hiredis has no TLS and does its own reading and writing; so only its parser is used, over this. */
#include "private.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <arpa/inet.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- names -------------------------------------------------------------------------------------- */

bool rd_resolve_plain(const rd_endpoint *endpoint, rd_addresses *out)
{
    rd_address *a = &out->list[0];
    memset(&a->addr, 0, sizeof a->addr);
    out->n = 1;
    if (endpoint->port == 0) {
        struct sockaddr_un *un = (struct sockaddr_un *)&a->addr;
        un->sun_family = AF_UNIX;
        size_t n = strlen(endpoint->host);
        if (n >= sizeof un->sun_path)
            n = sizeof un->sun_path - 1;
        memcpy(un->sun_path, endpoint->host, n);
        a->n = sizeof *un;
        return true;
    }
    struct sockaddr_in *v4 = (struct sockaddr_in *)&a->addr;
    if (inet_pton(AF_INET, endpoint->host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(endpoint->port);
        a->n = sizeof *v4;
        return true;
    }
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a->addr;
    if (inet_pton(AF_INET6, endpoint->host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(endpoint->port);
        a->n = sizeof *v6;
        return true;
    }
    out->n = 0;
    return false;
}

tn_status rd_resolve(const rd_endpoint *endpoint, rd_addresses *out, tn_error *err)
{
    if (rd_resolve_plain(endpoint, out))
        return TN_OK;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    char service[8];
    snprintf(service, sizeof service, "%u", endpoint->port);
    int rc = getaddrinfo(endpoint->host, service, &hints, &found);
    if (rc != 0)
        return rd_error(err, TN_EUNAVAILABLE, rc, "%.100s: %s", endpoint->host, gai_strerror(rc));
    for (struct addrinfo *a = found; a && out->n < RD_ADDRESSES_MAX; a = a->ai_next) {
        memcpy(&out->list[out->n].addr, a->ai_addr, a->ai_addrlen);
        out->list[out->n++].n = a->ai_addrlen;
    }
    freeaddrinfo(found);
    if (out->n == 0)
        return rd_error(err, TN_EUNAVAILABLE, 0, "%.100s: has no address", endpoint->host);
    return TN_OK;
}

/* ---- opening ------------------------------------------------------------------------------------ */

static void set_options(int fd, int family, uint64_t silence_ns)
{
    if (family == AF_UNIX)
        return;
    int on = 1, idle = 30, interval = 10, probes = 3;
    unsigned silence_ms = (unsigned)(silence_ns / RD_MS);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence_ms, sizeof silence_ms);
}

static tn_status begin_tls(rd_wire *wire, const rd_options *options, const rd_endpoint *endpoint,
                           tn_error *err)
{
    const char *name = options->tls_name[0] ? options->tls_name : endpoint->host;
    rd_addresses plain;
    bool is_address = rd_resolve_plain(endpoint, &plain) && !options->tls_name[0];
    wire->ssl = SSL_new(options->tls);
    if (!wire->ssl || SSL_set_fd(wire->ssl, wire->fd) != 1)
        return rd_error(err, TN_EUNAVAILABLE, 0, "TLS: out of memory");
    SSL_set_connect_state(wire->ssl);
    if (!is_address)
        SSL_set_tlsext_host_name(wire->ssl, name);
    if (options->tls_verify) {
        X509_VERIFY_PARAM *param = SSL_get0_param(wire->ssl);
        int ok = is_address ? X509_VERIFY_PARAM_set1_ip_asc(param, endpoint->host)
                            : X509_VERIFY_PARAM_set1_host(param, name, 0);
        if (ok != 1)
            return rd_error(err, TN_EINVALID, 0, "TLS: %.100s is no name to verify", name);
        SSL_set_verify(wire->ssl, SSL_VERIFY_PEER, NULL);
    }
    wire->shaking = true;
    wire->wants = TN_FD_WRITE;
    return TN_OK;
}

tn_status rd_wire_open(rd_wire *wire, const rd_options *options, const rd_endpoint *endpoint,
                       const rd_address *address, tn_error *err)
{
    *wire = (rd_wire){.fd = -1};
    int family = address->addr.ss_family;
    wire->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (wire->fd < 0)
        return rd_error(err, TN_EUNAVAILABLE, errno, "%.100s: %s", endpoint->host, strerror(errno));
    set_options(wire->fd, family, options->command_ns);
    if (connect(wire->fd, (const struct sockaddr *)&address->addr, address->n) != 0) {
        if (errno != EINPROGRESS) {
            tn_status status = rd_error(err, TN_EUNAVAILABLE, errno, "%.100s:%u: %s",
                                        endpoint->host, endpoint->port, strerror(errno));
            rd_wire_close(wire);
            return status;
        }
        wire->connecting = true;
    }
    if (!options->tls)
        return TN_OK;
    tn_status status = begin_tls(wire, options, endpoint, err);
    if (status != TN_OK)
        rd_wire_close(wire);
    return status;
}

static tn_status tls_failed(const rd_wire *wire, tn_error *err)
{
    long verdict = SSL_get_verify_result(wire->ssl);
    unsigned long code = ERR_get_error();
    ERR_clear_error();
    if (verdict != X509_V_OK)
        return rd_error(err, TN_EUNAVAILABLE, (int)verdict, "TLS: the server's certificate: %s",
                        X509_verify_cert_error_string(verdict));
    const char *why = code ? ERR_reason_error_string(code) : NULL;
    return rd_error(err, TN_EUNAVAILABLE, 0, "TLS: %s", why ? why : "the peer closed");
}

tn_status rd_wire_advance(rd_wire *wire, tn_error *err)
{
    if (wire->connecting) {
        int why = 0;
        socklen_t n = sizeof why;
        struct sockaddr_storage peer;
        socklen_t peer_n = sizeof peer;
        if (getsockopt(wire->fd, SOL_SOCKET, SO_ERROR, &why, &n) != 0)
            why = errno;
        if (why)
            return rd_error(err, TN_EUNAVAILABLE, why, "%s", strerror(why));
        if (getpeername(wire->fd, (struct sockaddr *)&peer, &peer_n) != 0)
            return TN_PENDING;
        wire->connecting = false;
    }
    if (!wire->shaking)
        return TN_OK;
    ERR_clear_error();
    int rc = SSL_do_handshake(wire->ssl);
    if (rc == 1) {
        wire->shaking = false;
        wire->wants = 0;
        return TN_OK;
    }
    int why = SSL_get_error(wire->ssl, rc);
    if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
        return tls_failed(wire, err);
    wire->wants = why == SSL_ERROR_WANT_READ ? TN_FD_READ : TN_FD_WRITE;
    return TN_PENDING;
}

/* ---- bytes -------------------------------------------------------------------------------------- */

static ssize_t tls_result(rd_wire *wire, int rc)
{
    if (rc > 0)
        return rc;
    int why = SSL_get_error(wire->ssl, rc);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        wire->wants |= why == SSL_ERROR_WANT_READ ? TN_FD_READ : TN_FD_WRITE;
        return RD_AGAIN;
    }
    ERR_clear_error();
    return why == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

ssize_t rd_wire_read(rd_wire *wire, void *p, size_t n)
{
    if (wire->ssl) {
        ERR_clear_error();
        wire->wants = 0;
        return tls_result(wire, SSL_read(wire->ssl, p, (int)n));
    }
    ssize_t got;
    do
        got = recv(wire->fd, p, n, 0);
    while (got < 0 && errno == EINTR);
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? RD_AGAIN : got;
}

ssize_t rd_wire_write(rd_wire *wire, const void *p, size_t n)
{
    if (wire->ssl) {
        ERR_clear_error();
        wire->wants = 0;
        ssize_t put = tls_result(wire, SSL_write(wire->ssl, p, n > (1 << 30) ? 1 << 30 : (int)n));
        return put == 0 ? -1 : put;
    }
    ssize_t put;
    do
        put = send(wire->fd, p, n, MSG_NOSIGNAL);
    while (put < 0 && errno == EINTR);
    return put < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? RD_AGAIN : put;
}

uint32_t rd_wire_events(const rd_wire *wire, bool has_output)
{
    if (wire->connecting)
        return TN_FD_WRITE;
    if (wire->shaking)
        return wire->wants;
    return TN_FD_READ | (has_output || (wire->wants & TN_FD_WRITE) ? TN_FD_WRITE : 0);
}

void rd_wire_close(rd_wire *wire)
{
    if (wire->ssl) {
        SSL_set_quiet_shutdown(wire->ssl, 1);
        SSL_free(wire->ssl);
        wire->ssl = NULL;
    }
    if (wire->fd >= 0)
        close(wire->fd);
    wire->fd = -1;
}
