/* SPDX-License-Identifier: MIT */
/* A cluster as an operator's command sees it: its store, and its processes by their records there, which are called on their
 * internal services with the secret that is derived from the keys in the store. */
#ifndef TN_TOOLS_OPERATE_H
#define TN_TOOLS_OPERATE_H

#include "client/remote.h"
#include "tools/db.h"

typedef struct tn_site {
    const tn_tool *tool;
    tn_settings *settings;
    tn_tool_db db;
    tn_arena *arena;
    char secret[TN_REMOTE_SECRET_SIZE];
    uint32_t partitions, shards;
    uint64_t map_version;
    tn_keys keys;
    tn_member *members; /* those with fresh records */
    size_t n_members;
    const char *word;       /* the command's argument */
    uint64_t want, wait_ns; /* shards */
} tn_site;

int tn_site_failed(const tn_site *s, const char *what); /* tells it; the command's result */
tn_key tn_site_meta(tn_site *s, const char *name);
/* A row of the store, unpacked. */
tn_status tn_site_row(tn_site *s, tn_key key, const ProtobufCMessageDescriptor *type,
                      ProtobufCMessage **out, tn_error *err);
/* A member by its record; false: damaged, or it has not written it for long. */
bool tn_site_member(tn_site *s, const tn_row *row, tn_member *out,
                    Tenon__MemberRecord **out_record);
/* NULL: answered; else why not.  m NULL: the server without a cluster at the frontend's address of the configuration. */
const tn_fault *tn_site_ask(tn_site *s, const tn_member *m, const char *path,
                            const ProtobufCMessage *request, const ProtobufCMessageDescriptor *type,
                            ProtobufCMessage **out);

int tn_site_rekey(tn_site *s); /* rekey.c */

#endif
