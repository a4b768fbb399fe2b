/* SPDX-License-Identifier: MIT */
/* The cluster as this process sees it: gossip on the membership port, records in the store that newcomers find each
 * other by, and a ring a role that every loop reads without a lock.
 *
 * A process that was not given a membership (start-dev, a lone server) has no rings: it owns everything. */
#ifndef TN_MEMBERSHIP_MEMBERSHIP_H
#define TN_MEMBERSHIP_MEMBERSHIP_H

#include "loop/loop.h"
#include "membership/ring.h"
#include "membership/swim.h"

typedef struct tn_members_options {
    const char *bind_ip;              /* the gossip port's */
    const char *broadcast_ip;         /* what others are told; NULL: bind_ip */
    uint16_t ports[TN_SERVICE_COUNT]; /* membership ports to listen on; 0: none */
    /* gRPC ports of the roles this process has; 0: not that role */
    uint16_t role_ports[TN_SERVICE_COUNT];
    const char *version;
    const char *const *seeds; /* "ip:port" of other members, besides the store's records */
    size_t n_seeds;
    bool use_store; /* read and write member records */
    /* write one's own record, for operators, but meet nobody by those of others */
    bool seeds_only;
} tn_members_options;

/* [main] Before tn_members_start, for whoever must know its id (tn_members_self_id) before. */
void tn_members_begin(void);
/* [main, loops running, store started] Joins, and waits for a moment so that the first rings are whole. */
tn_status tn_members_start(const tn_members_options *options, tn_error *err) TN_WARN_UNUSED;
bool tn_members_on(void);
/* [main] Out of the rings, still a member: what this process owns is taken by others. */
void tn_members_drain(void);
void tn_members_stop(void); /* [main] says farewell; removes its record */
void tn_members_done(void); /* [main, loops ended] drops the last snapshots */

/* [loop] Who owns a key of a role.  NULL: this process (or there is no membership).  *out_any false: nobody has that
 * role.  The member is valid until the loop's current message returns. */
const tn_member *tn_members_owner(uint32_t service, tn_blob key, bool *out_any);
/* [loop] The same as it was before the last change; self included, NULL: nobody. For listeners. */
const tn_member *tn_members_owner_before(uint32_t service, tn_blob key);
const tn_member *tn_members_owner_now(uint32_t service, tn_blob key);
/* [loop] A member by host id, also one that left or died within the hour; valid as above; NULL: unknown. */
const tn_member *tn_members_find(const uint8_t host_id[16]);
/* [loop] All living members, self included; valid as above. */
const tn_member *const *tn_members_list(size_t *out_count);
const uint8_t *tn_members_self_id(void);
/* [loop] How many take part in a role's ring; 1 without a membership. */
size_t tn_members_count(uint32_t service);
/* [any] A call to that member failed: gossip looks at it now. */
void tn_members_doubt(const uint8_t host_id[16]);
bool tn_members_evict(const uint8_t host_id[16]); /* [loop 0] */
/* [loop 0] The keys of the cluster have changed, perhaps: they are read, and the own record is written again.  done as in
 * tn_keys_refresh. */
void tn_members_rekey(void (*done)(void *user, uint64_t version), void *user);

/* [main, before start] Called on every loop after its rings have changed. */
void tn_members_listen(void (*changed)(void));
/* [main, before start] Called on every loop when others have taken this process for dead, or nearly: what it owns may
 * have been another's meanwhile, although its own rings have not changed. */
void tn_members_listen_missed(void (*missed)(void));

#endif
