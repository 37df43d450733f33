/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <rte_common.h>

#include <cmocka.h>

#include "vhost_bus.h"

static void
test_path_alone_makes_a_server(void **state)
{
	struct vhost_args args;

	(void)state;
	assert_int_equal(vdpa_vhost_args_parse("path=/run/v0.sock", &args), 0);
	assert_string_equal(args.path, "/run/v0.sock");
	assert_false(args.client);
	assert_false(args.set_mode);
	assert_false(args.set_group);
}

static void
test_all_keys_in_any_order(void **state)
{
	struct vhost_args args;

	(void)state;
	assert_int_equal(vdpa_vhost_args_parse("group=root,mode=0640,client=off,path=a", &args), 0);
	assert_string_equal(args.path, "a");
	assert_true(args.set_mode && args.set_group);
	assert_int_equal(args.mode, 0640);
	assert_int_equal(args.gid, 0);
	assert_int_equal(vdpa_vhost_args_parse("path=a,client=on", &args), 0);
	assert_true(args.client);
}

static void
test_group_by_number_gets_a_mode_that_lets_it_in(void **state)
{
	struct vhost_args args;

	(void)state;
	assert_int_equal(vdpa_vhost_args_parse("path=a,group=4242", &args), 0);
	assert_int_equal(args.gid, 4242);
	assert_true(args.set_mode);
	assert_int_equal(args.mode, 0660);
}

static void
test_longest_path_fits_a_socket_address(void **state)
{
	char text[256] = "path=";
	struct vhost_args args;

	(void)state;
	memset(text + 5, 'p', VHOST_PATH_MAX - 1);
	assert_int_equal(vdpa_vhost_args_parse(text, &args), 0);
	assert_int_equal(strlen(args.path), VHOST_PATH_MAX - 1);
	text[5 + VHOST_PATH_MAX - 1] = 'p';
	assert_int_equal(vdpa_vhost_args_parse(text, &args), -EINVAL);
}

static const struct {
	const char *text;
	const char *says[3]; /* all in the sentence for people */
} bad[] = {
	{"", {"path", "missing", "mode=OCTAL"}},
	{NULL, {"path", "missing", "client=on|off"}},
	{"path=", {"path", "VALUE"}},
	{"client=on", {"path", "missing"}},
	{"path=a,client=maybe", {"client", "maybe", "on"}},
	{"path=a,mode=888", {"mode", "888", "octal"}},
	{"path=a,mode=1777", {"mode", "1777", "0777"}},
	{"path=a,mode=-1", {"mode", "-1", "octal"}},
	{"path=a,mode=", {"mode", "VALUE"}},
	{"path=a,mode=66x", {"mode", "66x", "octal"}},
	{"path=a,group=no-such-group-here", {"group", "no-such-group-here"}},
	{"path=a,group=4294967295", {"group", "4294967295"}},
	{"path=a,group=-1", {"group", "-1"}},
	{"path=a,owner=root", {"owner", "path"}},
	{"path=a,path=b", {"path"}},
	{"path=a,client=on,mode=0660", {"mode", "client=on"}},
	{"path=a,client=on,group=root", {"group", "client=on"}},
	{"path=/dev/vduse/v0", {"path", "/dev/vduse/v0", "VDUSE"}},
};

static void
test_bad_arguments_name_key_and_what_is_allowed(void **state)
{
	struct vhost_args args;
	unsigned int i, k;

	(void)state;
	for (i = 0; i < RTE_DIM(bad); i++) {
		if (vdpa_vhost_args_parse(bad[i].text, &args) != -EINVAL)
			fail_msg("'%s' was taken", bad[i].text);
		for (k = 0; k < RTE_DIM(bad[i].says) && bad[i].says[k] != NULL; k++)
			if (strstr(vdpa_error_text(), bad[i].says[k]) == NULL)
				fail_msg("'%s' is answered without '%s': %s", bad[i].text,
					bad[i].says[k], vdpa_error_text());
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_path_alone_makes_a_server),
		cmocka_unit_test(test_all_keys_in_any_order),
		cmocka_unit_test(test_group_by_number_gets_a_mode_that_lets_it_in),
		cmocka_unit_test(test_longest_path_fits_a_socket_address),
		cmocka_unit_test(test_bad_arguments_name_key_and_what_is_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
