/* SPDX-License-Identifier: MIT */
/* UDP on a loop, for membership: small packets that may get lost.  All [loop]. */
#ifndef TN_LOOP_DGRAM_H
#define TN_LOOP_DGRAM_H

#include "loop/loop.h"

typedef struct tn_dgram tn_dgram;
/* port 0: any.  The bytes live until `came` returns. */
tn_status tn_dgram_open(const char *ip, uint16_t port,
                        void (*came)(void *user, const char *ip, uint16_t port, const uint8_t *p,
                                     size_t n),
                        void *user, tn_dgram **out, tn_error *err) TN_WARN_UNUSED;
uint16_t tn_dgram_port(const tn_dgram *dgram);
/* Leaves at once or not at all. */
void tn_dgram_send(tn_dgram *dgram, const char *ip, uint16_t port, const uint8_t *p, size_t n);
void tn_dgram_close(tn_dgram *dgram);

#endif
