/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright (c) 2026 The vDPA framework authors
 */
#ifndef CARD_GUEST_H
#define CARD_GUEST_H

/**
 * @file
 * A guest at a test card, for the tests of the class: how each of them begins and ends. For cmocka
 * programs, after its headers.
 */

#include "card.h"
#include "guest.h"

static inline void
setup(struct card **card, struct guest *guest, const struct card_conf *conf, uint64_t features)
{
	*card = card_create(conf);
	if (*card == NULL)
		fail_msg("%s", vdpa_error_text());
	assert_int_equal(guest_create(guest, card_device(*card), features, conf->nr_pairs), 0);
}

/* And its driver has begun. */
static inline void
setup_started(
	struct card **card, struct guest *guest, const struct card_conf *conf, uint64_t features)
{
	setup(card, guest, conf, features);
	assert_int_equal(guest_start(guest), 0);
}

static inline void
teardown(struct card *card, struct guest *guest)
{
	assert_int_equal(card_violations(card), 0);
	assert_int_equal(guest_destroy(guest), 0);
	assert_int_equal(card_destroy(card, false), 0);
}

static inline struct vdpa_device_status
status_of(struct card *card)
{
	struct vdpa_device_status status;

	vdpa_device_status_get(card_device(card), &status);
	return status;
}

#endif /* CARD_GUEST_H */
