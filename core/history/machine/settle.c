/* SPDX-License-Identifier: MIT */
/* What is left to do when a run has closed: its parent knows, its children have been dealt with.  No event says so,
 * yet it must outlive a restart, or both would be done again. */
#include "history/machine/priv.h"

const tn_fault *tn_machine_parent_told(tn_tx *tx)
{
    tx->ms->parent_told = true;
    tx->extras_dirty = true;
    return NULL;
}

const tn_fault *tn_machine_children_settled(tn_tx *tx)
{
    tx->ms->children_settled = true;
    tx->extras_dirty = true;
    return NULL;
}
