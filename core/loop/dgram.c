/* SPDX-License-Identifier: MIT */
/* UDP sockets over libuv. */
#include "loop/dgram.h"

#include <stdlib.h>
#include <string.h>

#include "loop/internal.h"

struct tn_dgram {
    uv_udp_t udp;
    tn_loop_handle handle;
    uint16_t port;
    bool closing;
    void (*came)(void *user, const char *ip, uint16_t port, const uint8_t *p, size_t n);
    void *user;
};

static void uv_closed(uv_handle_t *handle)
{
    tn_dgram *d = handle->data;
    tn_list_remove(&d->handle.link);
    free(d);
}

void tn_dgram_close(tn_dgram *d)
{
    if (d->closing)
        return;
    d->closing = true;
    uv_close((uv_handle_t *)&d->udp, uv_closed);
}

static void abandon(tn_loop_handle *handle)
{
    tn_dgram_close(TN_CONTAINER_OF(handle, tn_dgram, handle));
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)handle, (void)suggested;
    tn_loop *loop = tn_loop_current_checked();
    *buf = uv_buf_init((char *)loop->read_buf, TN_LOOP_READ_BYTES);
}

static void received(uv_udp_t *udp, ssize_t n, const uv_buf_t *buf, const struct sockaddr *from,
                     unsigned flags)
{
    tn_dgram *d = udp->data;
    char ip[INET6_ADDRSTRLEN];
    tn_loop_busy(tn_loop_current_checked());
    if (n <= 0 || !from || flags & UV_UDP_PARTIAL || d->closing)
        return;
    bool six = from->sa_family == AF_INET6;
    uint16_t port = ntohs(six ? ((const struct sockaddr_in6 *)(const void *)from)->sin6_port
                              : ((const struct sockaddr_in *)(const void *)from)->sin_port);
    int rc = six ? uv_ip6_name((const struct sockaddr_in6 *)(const void *)from, ip, sizeof(ip))
                 : uv_ip4_name((const struct sockaddr_in *)(const void *)from, ip, sizeof(ip));
    if (rc == 0)
        d->came(d->user, ip, port, (const uint8_t *)buf->base, (size_t)n);
}

static bool address_of(const char *ip, uint16_t port, struct sockaddr_storage *out)
{
    return uv_ip4_addr(ip, port, (struct sockaddr_in *)out) == 0 ||
           uv_ip6_addr(ip, port, (struct sockaddr_in6 *)out) == 0;
}

tn_status tn_dgram_open(const char *ip, uint16_t port,
                        void (*came)(void *user, const char *ip, uint16_t port, const uint8_t *p,
                                     size_t n),
                        void *user, tn_dgram **out, tn_error *err)
{
    struct sockaddr_storage address;
    tn_loop *loop = tn_loop_current_checked();
    if (!address_of(ip, port, &address))
        return tn_error_set(err, TN_EINVALID, "\"%s\" is not an IP address", ip);
    tn_dgram *d = tn_xcalloc(1, sizeof(*d));
    int rc = uv_udp_init(&loop->uv, &d->udp);
    TN_ASSERT(rc == 0);
    d->udp.data = d;
    d->came = came;
    d->user = user;
    d->handle.abandon = abandon;
    tn_list_push_back(&loop->handles, &d->handle.link);
    rc = uv_udp_bind(&d->udp, (const struct sockaddr *)&address, 0);
    int size = sizeof(address);
    if (rc == 0)
        rc = uv_udp_getsockname(&d->udp, (struct sockaddr *)&address, &size);
    if (rc == 0)
        rc = uv_udp_recv_start(&d->udp, give_buffer, received);
    if (rc != 0) {
        tn_dgram_close(d);
        return tn_error_set(err, TN_EUNAVAILABLE, "%s:%u (UDP): %s", ip, port, uv_strerror(rc));
    }
    d->port =
        ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&address)->sin6_port
                                            : ((struct sockaddr_in *)(void *)&address)->sin_port);
    *out = d;
    return TN_OK;
}

uint16_t tn_dgram_port(const tn_dgram *d) { return d->port; }

void tn_dgram_send(tn_dgram *d, const char *ip, uint16_t port, const uint8_t *p, size_t n)
{
    struct sockaddr_storage address;
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)p, (unsigned)n);
    if (!d->closing && address_of(ip, port, &address))
        (void)uv_udp_try_send(&d->udp, &buf, 1,
                              (const struct sockaddr *)&address); /* lost: gossip copes */
}
