/* SPDX-License-Identifier: MIT */
/* A worker keeps several polls on a queue and sends the next when one has brought a task.  As long as matching has
 * others of the same worker there's no hurry with that one: it waits for company on its way (core/rpc/pipe.h), so that
 * matching is woken for several at a time.  Half of a worker's polls, and two at least, are always with matching; when
 * they become fewer the rest leaves at once. */
#include "client/crowd.h"

#include <stdlib.h>

#define ENOUGH 2u /* with matching: another may wait */

tn_crowd_wire tn_crowd_says = {.left = tn_outcall_left, .hurry = tn_outcall_hurry};

typedef struct tn_crowd {
    tn_map_link by_key;
    /* hashes of the namespace, the queue with its type, and what the worker says of itself */
    uint64_t key[3];
    size_t n, n_held;
    tn_list held; /* oldest first */
} tn_crowd;

static void let_go(tn_crowd_poll *poll)
{
    tn_list_remove(&poll->held);
    poll->crowd->n_held--;
}

/* Others have taken them along, or they have waited long enough. */
static void see_who_left(tn_crowd *crowd)
{
    tn_list *first;
    while ((first = tn_list_first(&crowd->held)) != NULL) {
        tn_crowd_poll *poll = TN_CONTAINER_OF(first, tn_crowd_poll, held);
        if (!tn_crowd_says.left(poll->out))
            return;
        let_go(poll);
    }
}

static tn_crowd *crowd_of(tn_map *crowds, const tn_mreq *req)
{
    uint64_t key[3] = {tn_hash64(tn_blob_of_str(req->ns->id)),
                       tn_hash64(tn_blob_of_str(req->queue)) + req->type,
                       tn_hash64(req->packed.bytes)};
    tn_map_link *found = tn_map_find(crowds, tn_blob_from(key, sizeof(key)));
    if (found)
        return TN_CONTAINER_OF(found, tn_crowd, by_key);
    tn_crowd *crowd = tn_xcalloc(1, sizeof(*crowd));
    memcpy(crowd->key, key, sizeof(key));
    tn_list_init(&crowd->held);
    tn_map_insert(crowds, &crowd->by_key, tn_blob_from(crowd->key, sizeof(crowd->key)));
    return crowd;
}

void tn_crowd_join(tn_map *crowds, tn_crowd_poll *poll, tn_outcall *out, const tn_mreq *req)
{
    *poll = (tn_crowd_poll){.out = out};
    if (!req->packed.bytes.n || req->packed.of != req->request || req->forwarded)
        return;
    tn_crowd *crowd = poll->crowd = crowd_of(crowds, req);
    see_who_left(crowd);
    size_t there = crowd->n - crowd->n_held;
    out->unhurried = there >= ENOUGH && crowd->n_held < there;
    crowd->n++;
    if (out->unhurried) {
        crowd->n_held++;
        tn_list_push_back(&crowd->held, &poll->held);
    }
}

void tn_crowd_leave(tn_map *crowds, tn_crowd_poll *poll)
{
    tn_crowd *crowd = poll->crowd;
    if (!crowd)
        return;
    if (tn_list_linked(&poll->held))
        let_go(poll);
    poll->crowd = NULL;
    if (--crowd->n == 0) {
        tn_map_remove(crowds, &crowd->by_key);
        free(crowd);
        return;
    }
    see_who_left(crowd);
    size_t there = crowd->n - crowd->n_held;
    if (crowd->n_held && (there < ENOUGH || there < crowd->n_held))
        tn_crowd_says.hurry(TN_CONTAINER_OF(tn_list_first(&crowd->held), tn_crowd_poll, held)->out);
}
