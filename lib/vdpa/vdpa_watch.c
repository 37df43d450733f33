/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "vdpa_private.h"

struct watch {
	struct watch *next;
	uint64_t id; /* of the event; a descriptor's number may have a second life */
	int fd, epoll_fd;
	void (*fn)(void *arg);
	void *arg;
};

/* Held while a watch's fn runs. Taken before the op pool's. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct watch *watches;
static uint64_t last_id;

int
vdpa_watch_add(int fd, void (*fn)(void *arg), void *arg)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	struct watch *watch = malloc(sizeof(*watch));
	int epoll_fd, rc = 0;

	if (watch == NULL)
		return -ENOMEM;
	epoll_fd = vdpa_control_epoll();
	if (epoll_fd < 0) {
		free(watch);
		return epoll_fd;
	}
	pthread_mutex_lock(&lock);
	*watch = (struct watch){
		.id = ++last_id, .fd = fd, .epoll_fd = epoll_fd, .fn = fn, .arg = arg};
	event.data.u64 = watch->id;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
		rc = -errno;
		free(watch);
	} else {
		watch->next = watches;
		watches = watch;
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

void
vdpa_watch_del(int fd)
{
	struct watch **at, *watch;

	pthread_mutex_lock(&lock);
	for (at = &watches; *at != NULL && (*at)->fd != fd; at = &(*at)->next)
		;
	watch = *at;
	if (watch != NULL) {
		*at = watch->next;
		epoll_ctl(watch->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		free(watch);
	}
	pthread_mutex_unlock(&lock);
}

void
vdpa_watch_run(uint64_t id)
{
	struct watch *watch;

	pthread_mutex_lock(&lock);
	for (watch = watches; watch != NULL && watch->id != id; watch = watch->next)
		;
	if (watch != NULL)
		watch->fn(watch->arg);
	pthread_mutex_unlock(&lock);
}
