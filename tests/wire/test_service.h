/* SPDX-License-Identifier: MIT */
/* grpc.testing.TestService for the wire server. */
#ifndef TN_TESTS_WIRE_TEST_SERVICE_H
#define TN_TESTS_WIRE_TEST_SERVICE_H

#include "rpc/rpc.h"

void wire_test_service_register(void);

#endif
