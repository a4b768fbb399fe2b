/* SPDX-License-Identifier: MIT */
/* Intrusive doubly linked list: an object holds its links, so that insertion never allocates and
 * removal needs no search.  A link that is in no list points to itself (tn_list_init). */
#ifndef TN_BASE_LIST_H
#define TN_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/assert.h"

typedef struct tn_list {
    struct tn_list *prev, *next;
} tn_list;

static inline void tn_list_init(tn_list *head) { head->prev = head->next = head; }
static inline bool tn_list_empty(const tn_list *head) { return head->next == head; }
static inline bool tn_list_linked(const tn_list *link) { return link->next && link->next != link; }
static inline void tn_list_insert_before(tn_list *at, tn_list *link)
{
    link->prev = at->prev;
    link->next = at;
    at->prev->next = link;
    at->prev = link;
}
static inline void tn_list_push_back(tn_list *head, tn_list *link)
{
    tn_list_insert_before(head, link);
}
static inline void tn_list_push_front(tn_list *head, tn_list *link)
{
    tn_list_insert_before(head->next, link);
}
static inline void tn_list_remove(tn_list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    tn_list_init(link);
}
static inline tn_list *tn_list_first(const tn_list *head)
{
    return head->next == head ? NULL : head->next;
}
static inline tn_list *tn_list_pop_front(tn_list *head)
{
    tn_list *link = tn_list_first(head);
    if (link)
        tn_list_remove(link);
    return link;
}
#define TN_LIST_FOREACH(link, head) \
    for (tn_list *link = (head)->next; link != (head); link = link->next)
#define TN_LIST_FOREACH_SAFE(link, head) \
    for (tn_list *link = (head)->next, *link##_next = link->next; link != (head); \
         link = link##_next, link##_next = link->next)

#endif
