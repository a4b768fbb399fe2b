/* SPDX-License-Identifier: MIT */
/* TCP and local listeners and streams.  A write goes to the socket at once; what does not fit is copied into
 * one of two buffers: one is with the kernel's queue, the other collects until it comes back. */
#include "loop/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "loop/internal.h"

#define BACKLOG 1024

typedef union any_socket {
    uv_tcp_t tcp;
    uv_pipe_t pipe; /* a local one */
} any_socket;

struct tn_listener {
    any_socket uv;
    tn_loop_handle handle;
    bool local;
    tn_list known; /* in all_listeners */
    struct sockaddr_storage addr;
    uint16_t port;
    void (*accepted)(void *user, tn_stream *stream);
    void *user;
};

struct tn_stream {
    any_socket uv;
    tn_loop_handle handle;
    const tn_stream_events *events;
    void *user;
    void (*connected)(tn_stream *stream);
    uv_connect_t connect_req;
    uv_write_t write_req;
    tn_buf sending, waiting;
    tn_msg end_msg;
    int end_status;
    bool writing, end_queued, end_told, closing, uv_closed, silent;
    bool local, connect_due; /* end_msg tells of the connection */
};

/* Listeners of this process, to tell a second loop's listener from another server on our port:
 * SO_REUSEPORT alone would let both serve half of the connections each. */
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static tn_list all_listeners = {&all_listeners, &all_listeners};

/* ---- streams ---- */

static void stream_free_when_over(tn_stream *s)
{
    if (!s->uv_closed || s->end_queued)
        return;
    if (!s->silent && s->events && s->events->closed)
        s->events->closed(s);
    tn_buf_done(&s->sending);
    tn_buf_done(&s->waiting);
    free(s);
}

static void stream_uv_closed(uv_handle_t *handle)
{
    tn_stream *s = handle->data;
    tn_loop_busy(tn_loop_current_checked());
    s->uv_closed = true;
    stream_free_when_over(s);
}

static void stream_abandon(tn_loop_handle *handle)
{
    tn_stream *s = TN_CONTAINER_OF(handle, tn_stream, handle);
    s->silent = true;
    s->end_queued = false; /* the deferred queue has run dry before */
    if (!s->closing) {
        s->closing = true;
        uv_close((uv_handle_t *)&s->uv.tcp, stream_uv_closed);
    }
}

static void tell_end(tn_stream *s, int status)
{
    if (s->closing || s->end_told)
        return;
    s->end_told = true;
    uv_read_stop((uv_stream_t *)&s->uv.tcp);
    if (s->events && s->events->end)
        s->events->end(s, status);
}

static void end_run(tn_msg *msg)
{
    tn_stream *s = TN_CONTAINER_OF(msg, tn_stream, end_msg);
    s->end_queued = false;
    if (s->uv_closed) {
        stream_free_when_over(s);
    } else if (s->connect_due) {
        s->connect_due = false;
        if (!s->closing)
            s->connected(s);
    } else {
        tell_end(s, s->end_status);
    }
}

/* A failure found inside a call of the user's is told after it: no callback from under his feet. */
static void queue_end(tn_stream *s, int status)
{
    if (s->closing || s->end_queued || s->end_told)
        return;
    s->end_queued = true;
    s->end_status = status;
    s->end_msg.run = end_run;
    tn_loop_defer(&s->end_msg);
}

/* Makes no socket yet: cannot fail. */
static void socket_init(tn_loop *loop, any_socket *uv, bool local)
{
    int rc = local ? uv_pipe_init(&loop->uv, &uv->pipe, 0) : uv_tcp_init(&loop->uv, &uv->tcp);
    TN_ASSERT(rc == 0);
}

static tn_stream *stream_make(tn_loop *loop, bool local)
{
    tn_stream *s = tn_xcalloc(1, sizeof *s);
    socket_init(loop, &s->uv, local);
    s->local = local;
    s->uv.tcp.data = s;
    s->handle.abandon = stream_abandon;
    tn_list_push_back(&loop->handles, &s->handle.link);
    return s;
}

static void on_connected(uv_connect_t *req, int status)
{
    tn_stream *s = req->data;
    tn_loop_busy(tn_loop_current_checked());
    if (s->closing)
        return;
    if (status < 0) {
        tell_end(s, status);
        return;
    }
    uv_tcp_nodelay(&s->uv.tcp, 1);
    if (s->connected)
        s->connected(s);
}

static int address_make(const char *ip, uint16_t port, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (uv_ip4_addr(ip, port, (struct sockaddr_in *)out) == 0)
        return 0;
    return uv_ip6_addr(ip, port, (struct sockaddr_in6 *)out);
}

tn_stream *tn_stream_connect(const char *ip, uint16_t port, void (*connected)(tn_stream *stream),
                             const tn_stream_events *events, void *user)
{
    tn_stream *s = stream_make(tn_loop_current_checked(), false);
    struct sockaddr_storage addr;
    s->events = events;
    s->user = user;
    s->connected = connected;
    s->connect_req.data = s;
    int rc = address_make(ip, port, &addr);
    if (rc == 0)
        rc = uv_tcp_connect(&s->connect_req, &s->uv.tcp, (const struct sockaddr *)&addr,
                            on_connected);
    if (rc)
        queue_end(s, rc);
    return s;
}

/* ---- local sockets ---- */

/* Ours, or root's: nobody else may claim to be a process of this server. */
static bool peer_is_ours(int fd, pid_t *pid)
{
    struct ucred who;
    socklen_t n = sizeof who;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) != 0)
        return false;
    if (pid)
        *pid = who.pid;
    return who.uid == geteuid() || who.uid == 0;
}

/* Abstract: it lies in no folder, ends with its socket, and is known in this network namespace only. */
static socklen_t local_address(const char *name, struct sockaddr_un *out)
{
    size_t n = strlen(name);
    TN_ASSERT(n && n < sizeof out->sun_path);
    memset(out, 0, sizeof *out);
    out->sun_family = AF_UNIX;
    memcpy(out->sun_path + 1, name, n);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n);
}

static int local_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

tn_stream *tn_stream_connect_local(const char *name, void (*connected)(tn_stream *stream),
                                   const tn_stream_events *events, void *user)
{
    struct sockaddr_un addr;
    socklen_t n = local_address(name, &addr);
    int fd = local_socket();
    if (fd < 0)
        return NULL;
    /* Here, not by the loop: such a connection is made at once or not at all. */
    if (connect(fd, (const struct sockaddr *)&addr, n) != 0 || !peer_is_ours(fd, NULL)) {
        close(fd);
        return NULL;
    }
    tn_stream *s = stream_make(tn_loop_current_checked(), true);
    s->events = events;
    s->user = user;
    s->connected = connected;
    int rc = uv_pipe_open(&s->uv.pipe, fd);
    if (rc)
        close(fd);
    s->connect_due = rc == 0;
    queue_end(s, rc);
    return s;
}

void tn_stream_set(tn_stream *stream, const tn_stream_events *events, void *user)
{
    stream->events = events;
    stream->user = user;
}

void *tn_stream_user(const tn_stream *stream) { return stream->user; }

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    (void)suggested;
    (void)handle;
    *buf = uv_buf_init((char *)tn_loop_current_checked()->read_buf, TN_LOOP_READ_BYTES);
}

static void on_read(uv_stream_t *uv, ssize_t n, const uv_buf_t *buf)
{
    tn_stream *s = uv->data;
    tn_loop_busy(tn_loop_current_checked());
    if (s->closing || n == 0)
        return;
    if (n > 0) {
        if (s->events && s->events->read)
            s->events->read(s, (const uint8_t *)buf->base, (size_t)n);
        return;
    }
    tell_end(s, n == UV_EOF ? 0 : (int)n);
}

void tn_stream_read_start(tn_stream *stream)
{
    if (stream->closing || stream->end_told)
        return;
    int rc = uv_read_start((uv_stream_t *)&stream->uv.tcp, on_alloc, on_read);
    if (rc && rc != UV_EALREADY)
        queue_end(stream, rc);
}

void tn_stream_read_stop(tn_stream *stream)
{
    if (!stream->closing)
        uv_read_stop((uv_stream_t *)&stream->uv.tcp);
}

static void send_waiting(tn_stream *s);

static void on_written(uv_write_t *req, int status)
{
    tn_stream *s = req->data;
    tn_loop_busy(tn_loop_current_checked());
    s->writing = false;
    s->sending.n = 0;
    if (s->closing)
        return;
    if (status < 0) {
        s->waiting.n = 0;
        tell_end(s, status);
        return;
    }
    if (s->waiting.n) {
        send_waiting(s);
        return;
    }
    /* Idle streams hold no buffers: there may be many thousands of them. */
    tn_buf_done(&s->sending);
    tn_buf_done(&s->waiting);
    if (s->events && s->events->drained)
        s->events->drained(s);
}

static void send_waiting(tn_stream *s)
{
    tn_buf buf = s->sending;
    s->sending = s->waiting;
    s->waiting = buf;
    s->waiting.n = 0;
    s->write_req.data = s;
    uv_buf_t piece = uv_buf_init((char *)s->sending.p, (unsigned)s->sending.n);
    int rc = uv_write(&s->write_req, (uv_stream_t *)&s->uv.tcp, &piece, 1, on_written);
    if (rc) {
        s->sending.n = 0;
        queue_end(s, rc);
        return;
    }
    s->writing = true;
}

size_t tn_stream_write(tn_stream *stream, const uint8_t *p, size_t n)
{
    tn_stream *s = stream;
    if (s->closing || s->end_queued)
        return 0;
    if (!s->writing) {
        while (n) {
            unsigned piece = n > INT32_MAX ? INT32_MAX : (unsigned)n;
            uv_buf_t buf = uv_buf_init((char *)(uintptr_t)p, piece);
            int done = uv_try_write((uv_stream_t *)&s->uv.tcp, &buf, 1);
            if (done == UV_EAGAIN)
                break;
            if (done < 0) {
                queue_end(s, done);
                return 0;
            }
            p += done;
            n -= (size_t)done;
            if ((unsigned)done < piece)
                break;
        }
    }
    if (n) {
        TN_ASSERT(s->waiting.n + n <= UINT32_MAX); /* producers stop long before */
        tn_buf_put(&s->waiting, p, n);
        if (!s->writing)
            send_waiting(s);
    }
    return tn_stream_pending_bytes(s);
}

size_t tn_stream_pending_bytes(const tn_stream *stream)
{
    return stream->sending.n + stream->waiting.n;
}

void tn_stream_close(tn_stream *stream)
{
    if (stream->closing)
        return;
    stream->closing = true;
    tn_list_remove(&stream->handle.link);
    uv_close((uv_handle_t *)&stream->uv.tcp, stream_uv_closed);
}

void tn_stream_peer(const tn_stream *stream, char *out, size_t size)
{
    struct sockaddr_storage addr;
    int len = sizeof addr;
    char ip[64];
    if (size == 0)
        return;
    out[0] = 0;
    if (stream->local) {
        int fd = -1;
        pid_t pid = 0;
        if (uv_fileno((const uv_handle_t *)&stream->uv.pipe, &fd) == 0 && peer_is_ours(fd, &pid))
            snprintf(out, size, "process %ld of this host", (long)pid);
        return;
    }
    if (uv_tcp_getpeername(&stream->uv.tcp, (struct sockaddr *)&addr, &len) != 0)
        return;
    if (addr.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&addr;
        uv_ip4_name(in, ip, sizeof ip);
        snprintf(out, size, "%s:%u", ip, ntohs(in->sin_port));
    } else {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr;
        uv_ip6_name(in6, ip, sizeof ip);
        snprintf(out, size, "[%s]:%u", ip, ntohs(in6->sin6_port));
    }
}

/* ---- listeners ---- */

static void on_connection(uv_stream_t *server, int status)
{
    tn_listener *l = server->data;
    tn_loop_busy(tn_loop_current_checked());
    if (status < 0)
        return; /* libuv sheds the connection when descriptors run out; the peer sees a close */
    tn_stream *s = stream_make(tn_loop_current_checked(), l->local);
    int fd = -1;
    if (uv_accept(server, (uv_stream_t *)&s->uv.tcp) != 0 ||
        (l->local &&
         (uv_fileno((const uv_handle_t *)&s->uv.pipe, &fd) != 0 || !peer_is_ours(fd, NULL)))) {
        s->silent = true;
        tn_stream_close(s);
        return;
    }
    if (!l->local)
        uv_tcp_nodelay(&s->uv.tcp, 1);
    l->accepted(l->user, s);
}

static bool same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
    if (a->ss_family != b->ss_family)
        return false;
    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *x = (const struct sockaddr_in *)a,
                                 *y = (const struct sockaddr_in *)b;
        return x->sin_port == y->sin_port && x->sin_addr.s_addr == y->sin_addr.s_addr;
    }
    const struct sockaddr_in6 *x = (const struct sockaddr_in6 *)a,
                              *y = (const struct sockaddr_in6 *)b;
    return x->sin6_port == y->sin6_port && memcmp(&x->sin6_addr, &y->sin6_addr, 16) == 0;
}

static socklen_t address_len(const struct sockaddr_storage *addr)
{
    return addr->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

static int socket_bind(const struct sockaddr_storage *addr, bool shared, int *out_fd)
{
    int on = 1;
    int fd = socket(addr->ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        (shared && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) ||
        bind(fd, (const struct sockaddr *)addr, address_len(addr)) != 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    *out_fd = fd;
    return 0;
}

/* Under all_lock.  Unless a listener of ours is there already, the address must be free of
 * others. */
static int bind_checked(const struct sockaddr_storage *addr, uint16_t port, int *out_fd)
{
    bool ours = port == 0;
    TN_LIST_FOREACH (link, &all_listeners) {
        const tn_listener *l = TN_CONTAINER_OF(link, tn_listener, known);
        ours = ours || same_address(addr, &l->addr);
    }
    if (!ours) {
        int probe, rc = socket_bind(addr, false, &probe);
        if (rc)
            return rc;
        close(probe);
    }
    return socket_bind(addr, true, out_fd);
}

static void listener_free(uv_handle_t *handle) { free(handle->data); }

static void listener_forget(tn_listener *l)
{
    pthread_mutex_lock(&all_lock);
    if (tn_list_linked(&l->known))
        tn_list_remove(&l->known);
    pthread_mutex_unlock(&all_lock);
    uv_close((uv_handle_t *)&l->uv.tcp, listener_free);
}

static void listener_abandon(tn_loop_handle *handle)
{
    listener_forget(TN_CONTAINER_OF(handle, tn_listener, handle));
}

static int listener_start(tn_listener *l, int fd)
{
    int rc = uv_tcp_open(&l->uv.tcp, fd);
    if (rc) {
        close(fd);
        return rc;
    }
    if ((rc = uv_listen((uv_stream_t *)&l->uv.tcp, BACKLOG, on_connection)))
        return rc;
    int len = sizeof l->addr;
    if ((rc = uv_tcp_getsockname(&l->uv.tcp, (struct sockaddr *)&l->addr, &len)))
        return rc;
    l->port = ntohs(l->addr.ss_family == AF_INET ? ((struct sockaddr_in *)&l->addr)->sin_port
                                                 : ((struct sockaddr_in6 *)&l->addr)->sin6_port);
    return 0;
}

tn_status tn_listener_open(const char *ip, uint16_t port,
                           void (*accepted)(void *user, tn_stream *stream), void *user,
                           tn_listener **out, tn_error *err)
{
    tn_loop *loop = tn_loop_current_checked();
    struct sockaddr_storage addr;
    if (address_make(ip, port, &addr) != 0)
        return tn_error_set(err, TN_EINVALID, "\"%s\" is not an IPv4 or IPv6 address", ip);
    tn_listener *l = tn_xcalloc(1, sizeof *l);
    int fd = -1, rc = uv_tcp_init(&loop->uv, &l->uv.tcp);
    TN_ASSERT(rc == 0);
    l->uv.tcp.data = l;
    l->accepted = accepted;
    l->user = user;
    l->handle.abandon = listener_abandon;
    pthread_mutex_lock(&all_lock);
    rc = bind_checked(&addr, port, &fd);
    if (rc == 0)
        rc = listener_start(l, fd);
    if (rc == 0)
        tn_list_push_back(&all_listeners, &l->known);
    pthread_mutex_unlock(&all_lock);
    if (rc) {
        uv_close((uv_handle_t *)&l->uv.tcp, listener_free);
        return tn_error_set(err, TN_EUNAVAILABLE, "cannot listen on %s port %u: %s", ip, port,
                            rc == UV_EADDRINUSE ? "another process has that port"
                                                : uv_strerror(rc));
    }
    tn_list_push_back(&loop->handles, &l->handle.link);
    *out = l;
    return TN_OK;
}

tn_status tn_listener_open_local(const char *name, void (*accepted)(void *user, tn_stream *stream),
                                 void *user, tn_listener **out, tn_error *err)
{
    tn_loop *loop = tn_loop_current_checked();
    struct sockaddr_un addr;
    socklen_t n = local_address(name, &addr);
    tn_listener *l = tn_xcalloc(1, sizeof *l);
    int fd = local_socket(), rc = fd < 0 ? -errno : 0;
    socket_init(loop, &l->uv, true);
    l->uv.pipe.data = l;
    l->local = true;
    l->accepted = accepted;
    l->user = user;
    l->handle.abandon = listener_abandon;
    if (rc == 0 && bind(fd, (const struct sockaddr *)&addr, n) != 0)
        rc = -errno;
    if (rc == 0)
        rc = uv_pipe_open(&l->uv.pipe, fd);
    if (rc && fd >= 0)
        close(fd);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&l->uv.pipe, BACKLOG, on_connection);
    if (rc) {
        uv_close((uv_handle_t *)&l->uv.pipe, listener_free);
        return tn_error_set(err, TN_EUNAVAILABLE, "cannot listen on the local socket %s: %s", name,
                            uv_strerror(rc));
    }
    tn_list_push_back(&loop->handles, &l->handle.link);
    *out = l;
    return TN_OK;
}

uint16_t tn_listener_port(const tn_listener *listener) { return listener->port; }

void tn_listener_close(tn_listener *listener)
{
    if (!listener)
        return;
    tn_list_remove(&listener->handle.link);
    listener_forget(listener);
}
