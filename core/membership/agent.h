/* SPDX-License-Identifier: MIT */
/* Between agent.c (gossip's rim), records.c (member records in the store) and seeds.c (addresses of the configuration). All [loop 0] unless said. */
#ifndef TN_MEMBERSHIP_AGENT_H
#define TN_MEMBERSHIP_AGENT_H

#include "loop/dgram.h"
#include "membership/membership.h"

const tn_member *tn_agent_self(void);
bool tn_agent_knows(const uint8_t host_id[16]); /* and it lives */
void tn_agent_meet(const char *ip, uint16_t port);
void tn_agent_ask(const char *ip, uint16_t port); /* once */
bool tn_agent_alone(void);

void tn_seeds_look_up(const tn_members_options *options); /* [main] may wait for names */
void tn_seeds_start(void);
void tn_seeds_stop(void);

void tn_records_start(bool meet_others);
void tn_records_again(void);   /* now, and not only at the next time */
bool tn_records_hopeful(void); /* [any] records of others were found, or have not been read yet */
void tn_records_stop(void);    /* [main] */

#endif
