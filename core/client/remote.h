/* SPDX-License-Identifier: MIT */
/* Batons that go to another host, and what comes from there; between client.c and the two sides of the wire. */
#ifndef TN_CLIENT_REMOTE_H
#define TN_CLIENT_REMOTE_H

#include "client/client.h"
#include "membership/keys.h"
#include "membership/membership.h"

/* How batons leave this process.  Without a net (start-dev, a lone server, the simulator) everything is local. */
typedef struct tn_client_net {
    /* The other host that owns the key of a role; NULL: this one, or (*out_any false) nobody. */
    const tn_member *(*owner)(uint32_t service, tn_blob key, bool *out_any);
    /* The same, this one included; NULL: nobody.  May be missing. */
    const tn_member *(*owner_now)(uint32_t service, tn_blob key);
    /* When members have changed: whether the key has another owner than before. */
    bool (*moved)(uint32_t service, tn_blob key);
    /* Pack the baton and send it to the owner; it comes back by tn_client_history_done or
     * tn_client_matching_done, with `not_owner` when nothing was done and the ring should be asked again. */
    void (*history)(const tn_member *owner, tn_hreq *req);
    void (*matching)(const tn_member *owner, tn_mreq *req);
    void (*credit)(const tn_member *owner, uint32_t shard, tn_str ns_id, tn_str queue,
                   uint32_t type);
    void (*close_shard)(const tn_member *owner, uint32_t shard);
    void (*retire)(const tn_member *owner, const tn_namespace *ns, tn_str workflow_id,
                   tn_str run_id);
    /* The next owner of a shard is told (client/handover.c). */
    void (*hand_over)(const tn_member *owner, uint32_t shard, const tn_run_key *runs, size_t n);
    /* Whether the key's owner before the last change lives. */
    bool (*handed)(uint32_t service, tn_blob key);
    /* Calls come back from hosts that do not own what they should: the shard map is read again. */
    void (*lost)(void);
    /* True when that poll was on its way to another host: it comes back cancelled. */
    bool (*cancel_poll)(uint64_t poll_id);
    void (*answer_poll)(const tn_poll_ref *to, tn_arena *arena, uint32_t type,
                        ProtobufCMessage *response);
} tn_client_net;
/* [loop] The rings have changed: what waits for another try has it now. */
void tn_client_ring_changed(void);
void tn_client_use_net(const tn_client_net *net); /* [main] before serving; client.c */
/* The doors of the roles of this process (door.c).  [loop] Before a baton goes to its owner's loop.  False: it was refused
 * and is on its way home, or it waits and goes on by itself.  Without doors everything passes. */
typedef struct tn_client_doors {
    bool (*history)(tn_hreq *req, void (*go)(tn_hreq *req));
    bool (*matching)(tn_mreq *req, void (*go)(tn_mreq *req));
} tn_client_doors;
void tn_client_use_doors(const tn_client_doors *doors);

/* remote.c */
#define TN_REMOTE_SECRET_SIZE 33
/* hex, and a NUL */
void tn_remote_secret_of(const uint8_t cluster_key[16], char out[TN_REMOTE_SECRET_SIZE]);
void tn_remote_use_keys(const tn_keys *keys); /* as the listener of tn_keys_load_sync */
void tn_remote_start(void);                   /* [main] before tn_members_start */
void tn_remote_stop(void);                    /* [main] what is out comes back UNAVAILABLE */
void tn_remote_forget(void); /* [main] the secrets, when no port of ours is open any more */

/* client.c: served here, or refused as another's; never sent on. */
void tn_client_history_here(tn_hreq *req);
void tn_client_matching_here(tn_mreq *req);
bool tn_client_credit_here(uint32_t shard, tn_str ns_id, tn_str queue, uint32_t type);
bool tn_client_close_shard_here(uint32_t shard);
/* The runs lie in the arena, which goes along. */
bool tn_client_handed_over_here(tn_arena *arena, uint32_t shard, const tn_run_key *runs, size_t n);
bool tn_client_retire_here(const tn_namespace *ns, tn_str workflow_id, tn_str run_id);

/* handover.c */
void tn_remote_hand_over(const tn_member *owner, uint32_t shard, const tn_run_key *runs, size_t n);
void tn_intake_handover(tn_call *call);
/* ending.c */
/* [main] this host drains: its callers' long polls, wherever they wait, are answered */
void tn_remote_end_waits(void);
void tn_intake_end_waits(tn_call *call);
void tn_client_end_waits_here(const uint8_t host_id[16]); /* [loop] client.c */
/* remote.c: a word that needs no answer; the arena goes with it. */
void tn_remote_notice(const tn_member *owner, uint32_t service, const char *path, tn_arena *arena,
                      const ProtobufCMessage *message);

/* rekey.c: the keys have changed in the store */
void tn_intake_keys(tn_call *call);
/* direct.c: answers of polls from history to the frontend's host */
void tn_direct_answer_poll(const tn_poll_ref *to, tn_arena *arena, uint32_t type,
                           ProtobufCMessage *response);
void tn_intake_answer_poll(tn_call *call);
void tn_direct_register(void); /* [main] its metrics */
/* remote.c: [its loop] a poll on its way ends with this answer (of: NULL: it is asked again).  False: it waits no more. */
bool tn_remote_settle_poll(const tn_poll_ref *poll, const ProtobufCMessageDescriptor *of,
                           tn_blob packed);
struct tn_channel *tn_remote_channel(const tn_member *owner, uint32_t service);

/* intake.c: the internal services' methods and their dispatcher (checks the secret). */
void tn_intake_register(void); /* [main] */
void tn_intake_dispatch(tn_call *call);
/* [any] The roles have what is theirs; until then the caller is told to ask again. */
void tn_intake_ready(void);
/* [any] how many calls to history and matching have come from other hosts */
uint64_t tn_intake_calls(void);

#endif
