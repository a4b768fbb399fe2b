/* SPDX-License-Identifier: MIT */
/* A world's memory that can be laid aside and brought back (arena.c). */
#ifndef TN_TESTS_SIM_ARENA_H
#define TN_TESTS_SIM_ARENA_H

#include <stddef.h>

/* All that is allocated now, and the n bytes at also. */
void sim_arena_lay_aside(void *also, size_t n);
void sim_arena_bring_back(void);
/* In a process just forked: memory of its own, with the world as it was laid aside. */
void sim_arena_own(void);

#endif
