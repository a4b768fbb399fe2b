/* SPDX-License-Identifier: MIT */
/* Rates of the frontend: base/rate.h, with the priorities of its methods. */
#ifndef TN_FRONTEND_LIMITS_H
#define TN_FRONTEND_LIMITS_H

#include "base/rate.h"

#endif
