# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Frames of known content through stock net_virtio_user: none lost, changed or reordered.

Every ring format the client has, 64 to 9000 bytes, cut into up to eight pieces.
"""

import re

import pytest

from backend import TestpmdVhost
from daemon import Daemon
from frames import Frames, expect_right

LONG_FRAMES = 10_000_000
FRAMES = 200_000

RINGS = {
    'split': 'packed_vq=0,in_order=0',
    'split-inorder': 'packed_vq=0,in_order=1',
    'packed': 'packed_vq=1,in_order=0',
    'packed-inorder': 'packed_vq=1,in_order=1',
}

# From 8 segments on net_virtio chains descriptors, below it takes one indirect one. With packed
# rings out of order it must not do both: it leaves the buffer id of an indirect descriptor to what
# stood in that slot, which is right only as long as each frame took one slot (all releases).
SEGMENTS = {ring: 7 if ring == 'packed' else 8 for ring in RINGS}


def check(backend, programs, tools, folder, frames, *, queues=1, devargs='', options=(), **more):
    run = Frames(programs, tools, folder, backend.path, queues=queues,
                 devargs='queue_size=256,' + devargs,
                 options=['--frames', str(frames), '--timeout-s', '20', *options], **more)
    expect_right(run.result(60 + frames * queues / 5_000), queues, frames)
    backend.expect_alive()


@pytest.mark.parametrize('queues', [1, 4])
@pytest.mark.parametrize('mergeable', [1, 0], ids=['mrg', 'nomrg'])
@pytest.mark.parametrize('ring', sorted(RINGS))
def test_frames_come_back_as_sent(make_backend, programs, tools, folder, is_long, ring, mergeable,
                                  queues):
    backend = make_backend(pairs=queues).start()
    check(backend, programs, tools, folder, LONG_FRAMES if is_long else FRAMES // queues,
          queues=queues, devargs=f'{RINGS[ring]},mrg_rxbuf={mergeable}',
          options=['--sizes', '64-9000', '--segments', str(SEGMENTS[ring])])


@pytest.mark.parametrize('ring', sorted(RINGS))
def test_small_frames_at_full_speed(make_backend, programs, tools, folder, is_long, ring):
    backend = make_backend().start()
    check(backend, programs, tools, folder, LONG_FRAMES if is_long else FRAMES,
          devargs=RINGS[ring], options=['--sizes', '64'])


@pytest.mark.parametrize('ring', ['split', 'packed-inorder'])
def test_sizes_around_every_buffer_end(make_backend, programs, tools, folder, ring):
    backend = make_backend().start()
    sizes = '60-66,1514-1518,2034-2050,4084-4100,6130-6150,8999-9000'
    check(backend, programs, tools, folder, 50_000, devargs=RINGS[ring],
          options=['--sizes', sizes, '--segments', '16'])


@pytest.mark.parametrize('ring', ['split', 'packed'])
def test_one_frame_at_a_time(make_backend, programs, tools, folder, ring):
    backend = make_backend().start()
    check(backend, programs, tools, folder, 5_000, devargs=RINGS[ring],
          options=['--inflight', '1', '--burst', '1'])


@pytest.mark.ours
@pytest.mark.parametrize('idle', ['sleep', 'poll'])
def test_time_there_and_back(make_backend, programs, tools, folder, idle):
    """The client's clock for single frames agrees with the time that all of them took."""
    backend = make_backend(options=['--worker-idle', idle]).start()
    result = Frames(programs, tools, folder, backend.path, devargs='queue_size=256',
                    options=['--frames', '500', '--latency', '20']).result(60)
    expect_right(result, 1, 500)
    queue = result['queues'][0]
    assert 0 < queue['median_us'] <= queue['p99_us']
    # one after the other, with pauses: half of them took the median or longer, 5 the 99 %
    assert queue['seconds'] >= 500 * 20e-6
    assert queue['seconds'] >= max(250 * queue['median_us'], 5 * queue['p99_us']) * 1e-6


def offered_by_sw_net(programs, tools, folder):
    """The feature word that a software device offers, as told when it is asked for too much."""
    _, text = Daemon(programs, tools, folder).run(
        ['--iface', str(folder / 'x')], ['vdpa_sw_net0,device_features=8000000000000000'])
    return int(re.search(r'allowed: 0x([0-9a-f]+)', text)[1], 16)


# Without indirect descriptors the client chains. EVENT_IDX is never taken by it: offered or not,
# the device must not look at event indexes.
@pytest.mark.ours
@pytest.mark.parametrize('without', ['indirect', 'event-index'])
@pytest.mark.parametrize('ring', sorted(RINGS))
def test_frames_with_a_feature_masked(make_backend, programs, tools, folder, ring, without):
    bit = {'indirect': 28, 'event-index': 29}[without]
    mask = offered_by_sw_net(programs, tools, folder)
    assert mask >> bit & 1
    backend = make_backend(devargs=f'device_features={mask & ~(1 << bit):x}').start()
    segments = 8 if without == 'indirect' else SEGMENTS[ring]
    check(backend, programs, tools, folder, FRAMES, devargs=RINGS[ring],
          options=['--sizes', '64-9000', '--segments', str(segments)])


def test_vectorised_client(make_backend, programs, tools, folder):
    backend = make_backend().start()
    check(backend, programs, tools, folder, FRAMES,
          devargs='packed_vq=1,in_order=1,mrg_rxbuf=0,vectorized=1',
          eal=['--force-max-simd-bitwidth=512'], options=['--sizes', '64-1500'])


def test_checker_sees_what_a_changing_back_end_does(need_testpmd, programs, tools, folder):
    """macswap changes bytes 0 to 11 of each frame; a checker that is content with it is none."""
    backend = TestpmdVhost(programs, tools, folder, options=['--forward-mode=macswap']).start()
    result = Frames(programs, tools, folder, backend.path,
                    options=['--frames', '1000']).result(30)
    assert not result['ok']
    assert result['queues'][0]['changed'] > 0
    assert 'frame 0 of' in result['why'] and 'first at byte 5' in result['why']


def test_checker_gives_up_on_a_silent_back_end(need_testpmd, programs, tools, folder):
    backend = TestpmdVhost(programs, tools, folder, options=['--forward-mode=rxonly']).start()
    result = Frames(programs, tools, folder, backend.path,
                    options=['--frames', '1000', '--timeout-s', '1']).result(30)
    assert not result['ok']
    assert result['queues'][0]['received'] == 0
    assert 'nothing came for 1 s' in result['why']
