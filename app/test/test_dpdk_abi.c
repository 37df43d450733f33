/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "vdpa_dpdk_abi.h"

static void
same_release_is_taken(void **state)
{
	(void)state;
	assert_int_equal(vdpa_dpdk_check(RTE_VER_YEAR, RTE_VER_MONTH), 0);
}

static void
other_release_is_refused(void **state)
{
	(void)state;
	assert_int_equal(vdpa_dpdk_check(RTE_VER_YEAR + 1, RTE_VER_MONTH), -ENOTSUP);
	assert_int_equal(vdpa_dpdk_check(RTE_VER_YEAR, RTE_VER_MONTH - 1), -ENOTSUP);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(same_release_is_taken),
		cmocka_unit_test(other_release_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
