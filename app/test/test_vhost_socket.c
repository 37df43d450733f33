/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <rte_common.h>

#include <cmocka.h>

#include "vhost_bus.h"

static char folder[] = "/tmp/vdpa-test-socket-XXXXXX";
static char path[64];

static int
setup(void **state)
{
	(void)state;
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(path, sizeof(path), "%s/v0", folder);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

static int
listen_at(const char *where)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", where);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static int
connect_to(const char *where)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", where);
	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

static void
test_free_path_stays_free(void **state)
{
	(void)state;
	assert_int_equal(vdpa_vhost_socket_clear(path), 0);
	assert_int_equal(access(path, F_OK), -1);
}

static void
test_stale_socket_is_removed(void **state)
{
	(void)state;
	close(listen_at(path));
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(vdpa_vhost_socket_clear(path), 0);
	assert_int_equal(access(path, F_OK), -1);
}

static void
test_live_socket_is_refused_naming_path_and_process(void **state)
{
	int fd = listen_at(path);
	char pid[16];

	(void)state;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	assert_int_equal(vdpa_vhost_socket_clear(path), -EADDRINUSE);
	assert_non_null(strstr(vdpa_error_text(), path));
	assert_non_null(strstr(vdpa_error_text(), pid));
	assert_int_equal(access(path, F_OK), 0);
	close(fd);
	unlink(path);
}

static void
test_socket_with_a_full_backlog_is_alive(void **state)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = listen_at(path), clients[16], nr = 0;

	(void)state;
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	for (; nr < 16; nr++) {
		clients[nr] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (connect(clients[nr], (struct sockaddr *)&un, sizeof(un)) < 0)
			break;
	}
	assert_true(nr < 16);
	assert_int_equal(vdpa_vhost_socket_clear(path), -EADDRINUSE);
	for (; nr >= 0; nr--)
		close(clients[nr]);
	close(fd);
	unlink(path);
}

static void
test_other_file_is_not_touched(void **state)
{
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(vdpa_vhost_socket_clear(path), -EEXIST);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
}

static void
test_missing_folder_is_named(void **state)
{
	(void)state;
	assert_int_equal(vdpa_vhost_socket_clear("/nonexistent-folder/v0"), -ENOENT);
	assert_non_null(strstr(vdpa_error_text(), "/nonexistent-folder/v0"));
}

static bool
none_taken(int fd, void *arg)
{
	(void)fd;
	(void)arg;
	return false;
}

static bool
is_taken(int fd, void *arg)
{
	return fd == *(int *)arg;
}

static long
timeout_us(int fd, int option)
{
	struct timeval timeout;
	socklen_t len = sizeof(timeout);

	assert_int_equal(getsockopt(fd, SOL_SOCKET, option, &timeout, &len), 0);
	return timeout.tv_sec * 1000000 + timeout.tv_usec;
}

static void
test_accepted_connection_is_found_and_gets_timeouts(void **state)
{
	int server = listen_at(path), client = connect_to(path);
	int accepted = accept(server, NULL, NULL);
	struct sockaddr_un un;
	socklen_t len = sizeof(un);

	(void)state;
	/*
	 * Here both ends are ours: the client's end is hidden as one that another connection has.
	 */
	assert_int_equal(getpeername(client, (struct sockaddr *)&un, &len), 0);
	assert_int_equal(vdpa_vhost_peer_find(path, is_taken, &client), accepted);
	assert_int_equal(timeout_us(accepted, SO_RCVTIMEO), VHOST_TIMEOUT_MS * 1000);
	assert_int_equal(timeout_us(accepted, SO_SNDTIMEO), VHOST_TIMEOUT_MS * 1000);
	assert_int_equal(timeout_us(server, SO_RCVTIMEO), 0);
	assert_int_equal(vdpa_vhost_peer_pid(accepted), getpid());
	close(client);
	close(accepted);
	close(server);
	unlink(path);
}

static void
test_connected_client_is_found_by_its_peer(void **state)
{
	int server = listen_at(path), client = connect_to(path);

	(void)state;
	assert_int_equal(vdpa_vhost_peer_find(path, none_taken, NULL), client);
	assert_int_equal(timeout_us(client, SO_RCVTIMEO), VHOST_TIMEOUT_MS * 1000);
	close(client);
	close(server);
	unlink(path);
}

static void
test_several_candidates_all_get_timeouts_but_none_is_named(void **state)
{
	int server = listen_at(path), client = connect_to(path);
	int accepted = accept(server, NULL, NULL);

	(void)state;
	assert_int_equal(vdpa_vhost_peer_find(path, none_taken, NULL), -1);
	assert_int_equal(timeout_us(accepted, SO_SNDTIMEO), VHOST_TIMEOUT_MS * 1000);
	assert_int_equal(timeout_us(client, SO_SNDTIMEO), VHOST_TIMEOUT_MS * 1000);
	close(client);
	close(accepted);
	close(server);
	unlink(path);
}

static void
test_a_dead_peer_is_told_from_one_that_is_silent(void **state)
{
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_false(vdpa_vhost_peer_dead(fds[0]));
	close(fds[1]);
	assert_true(vdpa_vhost_peer_dead(fds[0]));
	assert_false(vdpa_vhost_peer_dead(-1));
	close(fds[0]);
}

static void
test_a_peer_that_leaves_replies_unread_is_noticed(void **state)
{
	uint64_t reply = 0;
	int fds[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_true(vdpa_vhost_peer_reads(fds[0]));
	while (send(fds[0], &reply, sizeof(reply), MSG_DONTWAIT) == sizeof(reply))
		;
	assert_false(vdpa_vhost_peer_reads(fds[0]));
	close(fds[0]);
	close(fds[1]);
}

/* Never blocks and never kills, whatever the front end does with its end. */
static void
test_config_change_message_and_a_channel_that_nobody_reads(void **state)
{
	struct vhost_binding binding = {.name = "v0", .channel_fd = -1};
	uint32_t message[3];
	unsigned int i;
	int fds[2];

	(void)state;
	pthread_mutex_init(&binding.lock, NULL);
	vdpa_vhost_channel_config_changed(&binding);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	vdpa_vhost_channel_set(&binding, fds[0]);
	vdpa_vhost_channel_config_changed(&binding);
	assert_int_equal(recv(fds[1], message, sizeof(message), MSG_DONTWAIT), sizeof(message));
	assert_int_equal(message[0], 2); /* CONFIG_CHANGE_MSG */
	assert_int_equal(message[1], 1); /* version 1, no reply asked for */
	assert_int_equal(message[2], 0);
	for (i = 0; i < 100000; i++)
		vdpa_vhost_channel_config_changed(&binding);
	close(fds[1]);
	vdpa_vhost_channel_config_changed(&binding);
	vdpa_vhost_channel_set(&binding, -1);
	assert_int_equal(fcntl(fds[0], F_GETFD), -1);
	pthread_mutex_destroy(&binding.lock);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_free_path_stays_free),
		cmocka_unit_test(test_stale_socket_is_removed),
		cmocka_unit_test(test_live_socket_is_refused_naming_path_and_process),
		cmocka_unit_test(test_socket_with_a_full_backlog_is_alive),
		cmocka_unit_test(test_other_file_is_not_touched),
		cmocka_unit_test(test_missing_folder_is_named),
		cmocka_unit_test(test_accepted_connection_is_found_and_gets_timeouts),
		cmocka_unit_test(test_connected_client_is_found_by_its_peer),
		cmocka_unit_test(test_several_candidates_all_get_timeouts_but_none_is_named),
		cmocka_unit_test(test_a_dead_peer_is_told_from_one_that_is_silent),
		cmocka_unit_test(test_a_peer_that_leaves_replies_unread_is_noticed),
		cmocka_unit_test(test_config_change_message_and_a_channel_that_nobody_reads),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
