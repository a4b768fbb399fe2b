/* SPDX-License-Identifier: MIT */
/* Between agent.c (gossip's rim) and records.c (member records in the store). All [loop 0] unless said. */
#ifndef TN_MEMBERSHIP_AGENT_H
#define TN_MEMBERSHIP_AGENT_H

#include "loop/dgram.h"
#include "membership/membership.h"

const tn_member *tn_agent_self(void);
bool tn_agent_knows(const uint8_t host_id[16]); /* and it lives */
void tn_agent_meet(const char *ip, uint16_t port);

void tn_records_start(void);
bool tn_records_hopeful(void); /* [any] records of others were found, or have not been read yet */
void tn_records_stop(void);    /* [main] */

#endif
