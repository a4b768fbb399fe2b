/* SPDX-License-Identifier: MIT */
/* claimmapper/mtls: who calls, by the certificate that the client has shown in its handshake and the host has verified.
 * This file has the life of an instance, the plugin's table, and the way of one call: a certificate that a loop has met is
 * known by its bytes; its dates are looked at each time, since connections outlive handshakes. */
#include "private.h"

#include <stdlib.h>
#include <string.h>

static const char CONFIG_KEYS[] =
    "table.*.uri string - - a URI of the certificate (SPIFFE id), part by part between slashes\n"
    "table.*.dns string - - a DNS name of the certificate, part by part between dots\n"
    "table.*.organization string - - an organisation (O) of its subject\n"
    "table.*.organizationalUnit string - - a unit (OU) of its subject\n"
    "table.*.commonName string - - a common name (CN) of its subject\n"
    "table.*.subject string - - its whole subject, as RFC 2253 writes it: CN=client,O=Acme\n"
    "table.*.permissions list - - NAMESPACE:ROLE of whom the row takes; all rows that take a "
    "certificate add up\n"
    "subjectFrom string auto - the caller's name: uri, dns, commonName, subject; auto: its only "
    "URI, or the subject\n"
    "refuseExpired bool true - refuse calls when the certificate has expired since the handshake\n";

#define SLOTS 256u

typedef struct slot {
    uint8_t *der;
    size_t n;
    mt_claims *claims;
} slot;

typedef struct mt_inst {
    const tn_host *host;
    mt_table table;
    tn_metric *m_mapped, *m_read, *m_refused;
} mt_inst;

typedef struct mt_ctx { /* of a loop */
    mt_inst *inst;
    slot slots[SLOTS];
} mt_ctx;

/* ---- one call ---- */

static tn_status refuse(mt_ctx *ctx, tn_op *op, const tn_error *err)
{
    const mt_inst *inst = ctx->inst;
    inst->host->op_explain(op, err);
    inst->host->metric_add(inst->m_refused, 1);
    return err->code;
}

/* A certificate ends with its signature: bytes that look like chance. */
static slot *slot_of(mt_ctx *ctx, tn_blob der)
{
    uint64_t h = der.n;
    for (size_t i = der.n > 16 ? der.n - 16 : 0; i < der.n; i++)
        h = (h ^ der.p[i]) * UINT64_C(0x100000001b3);
    return &ctx->slots[(h ^ h >> 32) % SLOTS];
}

static tn_status give(mt_ctx *ctx, tn_op *op, const mt_claims *from, tn_claims *out)
{
    const mt_inst *inst = ctx->inst;
    size_t table = from->n_grants * sizeof(tn_role_grant), bytes = from->subject.n;
    for (size_t i = 0; i < from->n_grants; i++)
        bytes += from->grants[i].ns.n;
    char *p = inst->host->op_alloc(op, table + bytes + 1, _Alignof(tn_role_grant));
    if (!p) {
        tn_error err = {0};
        mt_error(&err, TN_EDENIED,
                 "certificate refused: its claims do not fit the operation's memory");
        return refuse(ctx, op, &err);
    }
    tn_role_grant *grants = (tn_role_grant *)(void *)p;
    p += table;
    memcpy(p, from->subject.p, from->subject.n);
    out->subject = (tn_str){p, from->subject.n};
    p += from->subject.n;
    for (size_t i = 0; i < from->n_grants; i++) {
        size_t n = from->grants[i].ns.n;
        memcpy(p, from->grants[i].ns.p, n);
        grants[i] = (tn_role_grant){.ns = {p, n}, .roles = from->grants[i].roles};
        p += n;
    }
    out->grants = grants;
    out->n_grants = from->n_grants;
    out->system_roles = from->system_roles;
    out->auth_type = (tn_str){"mtls", 4};
    out->present = 1;
    inst->host->metric_add(inst->m_mapped, 1);
    return TN_OK;
}

static void remember(slot *at, tn_blob der, mt_claims *claims)
{
    uint8_t *copy = malloc(der.n);
    free(at->der);
    free(at->claims);
    *at = (slot){0};
    if (!copy) {
        free(claims);
        return;
    }
    memcpy(copy, der.p, der.n);
    *at = (slot){copy, der.n, claims};
}

static tn_status map(void *arg, tn_op *op, const tn_auth_info *info, tn_claims *out)
{
    mt_ctx *ctx = arg;
    mt_inst *inst = ctx->inst;
    tn_blob der = info->peer_cert_der;
    tn_error err = {0};
    if (der.n == 0) { /* a header is nothing to this mapper */
        out->present = 0;
        return TN_OK;
    }
    slot *at = slot_of(ctx, der);
    mt_claims *claims = at->n == der.n && memcmp(at->der, der.p, der.n) == 0 ? at->claims : NULL,
              *fresh = NULL;
    if (!claims) {
        inst->host->metric_add(inst->m_read, 1);
        tn_status status = mt_certificate(&inst->table, der, &fresh, &err);
        if (status != TN_OK)
            return refuse(ctx, op, &err);
        claims = fresh;
    }
    uint64_t now_s = inst->host->now_ns() / MT_SEC;
    tn_status status;
    if (inst->table.unexpired && (now_s < claims->from_s || now_s > claims->until_s)) {
        mt_error(&err, TN_EDENIED, "certificate refused: %s",
                 now_s > claims->until_s ? "it has expired since the handshake"
                                         : "it is not valid yet");
        status = refuse(ctx, op, &err);
    } else {
        status = give(ctx, op, claims, out);
    }
    if (fresh)
        remember(at, der, fresh);
    return status;
}

/* ---- life ---- */

static tn_status open_mapper(const tn_host *host, const tn_config *cfg, void **out, tn_error *err)
{
    mt_inst *inst = calloc(1, sizeof *inst);
    if (!inst)
        return mt_error(err, TN_EUNAVAILABLE, "out of memory");
    inst->host = host;
    tn_status status = mt_table_read(host, cfg, &inst->table, err);
    if (status != TN_OK) {
        free(inst);
        return status;
    }
    inst->m_mapped =
        host->metric(inst, "mapped", TN_METRIC_COUNTER, "Calls whose certificate was taken");
    inst->m_read = host->metric(inst, "certificates_read", TN_METRIC_COUNTER,
                                "Certificates that a loop did not know yet");
    inst->m_refused =
        host->metric(inst, "refused", TN_METRIC_COUNTER, "Calls refused for their certificate");
    *out = inst;
    return TN_OK;
}

static tn_status attach(void *inst, tn_loop *loop, void **out, tn_error *err)
{
    mt_ctx *ctx = calloc(1, sizeof *ctx);
    (void)loop;
    if (!ctx)
        return mt_error(err, TN_EUNAVAILABLE, "out of memory");
    ctx->inst = inst;
    *out = ctx;
    return TN_OK;
}

static void detach(void *inst, void *arg)
{
    mt_ctx *ctx = arg;
    (void)inst;
    for (size_t i = 0; i < SLOTS; i++) {
        free(ctx->slots[i].der);
        free(ctx->slots[i].claims);
    }
    free(ctx);
}

static void close_mapper(void *arg)
{
    mt_inst *inst = arg;
    mt_table_done(&inst->table);
    free(inst);
}

static const tn_claim_mapper_ops OPS = {.map = map};

static const tn_plugin PLUGIN = {
    .magic = TN_PLUGIN_MAGIC,
    .struct_size = sizeof(tn_plugin),
    .abi_major = TN_PLUGIN_ABI_MAJOR,
    .abi_minor = TN_PLUGIN_ABI_MINOR,
    .kind = TN_KIND_CLAIM_MAPPER,
    .ops_size = sizeof(tn_claim_mapper_ops),
    .name = "mtls",
    .version = "0.1.0",
    .vendor = "tenon",
    .config_keys = CONFIG_KEYS,
    .open = open_mapper,
    .attach = attach,
    .detach = detach,
    .close = close_mapper,
    .ops = &OPS,
};

const tn_plugin *tn_plugin_v0(uint32_t index) { return index == 0 ? &PLUGIN : NULL; }
