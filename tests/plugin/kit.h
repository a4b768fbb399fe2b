/* SPDX-License-Identifier: MIT */
/* Moved: the cases are `tenonctl plugin check`. */
#include "tools/check/kit.h"
