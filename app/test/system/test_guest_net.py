# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""The checks of the Linux guests find what they are there to find."""

import socket
import struct
import threading

import pytest

import guest_net


def judged(numbers, spoil=lambda frame: frame):
    """What the checker says of frames 0..9 sent, these received."""
    frames = guest_net.Frames(run=3)
    check = guest_net.Checker(frames, flows=1)
    for number in numbers:
        check.take(spoil(frames.frame(0, number)))
    return check.report(10, 0.0)


def test_right_frames_are_right():
    report = judged(range(10))
    assert [report[k] for k in ('lost', 'changed', 'reordered', 'gaps', 'foreign')] == [0] * 5


@pytest.mark.parametrize('numbers, fault', [
    ([0, 1, 2, 3, 5, 6, 7, 8, 9], 'lost'),
    ([0, 1, 2, 4, 3, 5, 6, 7, 8, 9], 'reordered'),
    ([0, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9], 'reordered'),
])
def test_lost_and_reordered_frames_are_found(numbers, fault):
    assert judged(numbers)[fault] == 1


@pytest.mark.parametrize('spoil', [
    lambda frame: frame[:-1],
    lambda frame: frame + b'\0',
    lambda frame: frame[:-1] + bytes([frame[-1] ^ 1]),
    lambda frame: bytes([frame[0] ^ 1]) + frame[1:],
])
def test_changed_frames_are_found(spoil):
    assert judged(range(10), spoil)['changed'] == 10


def test_frames_of_another_run_do_not_count():
    frames = guest_net.Frames(run=4)
    check = guest_net.Checker(guest_net.Frames(run=3), flows=1)
    check.take(frames.frame(0, 0))
    assert (check.received, check.foreign) == (0, 1)


def received_stream(spoil, size=(5 << 20) + 17):
    """What tcp_receive says of a stream that `spoil` has changed."""
    with socket.create_server(('127.0.0.1', 0)) as probe:
        port = probe.getsockname()[1]
    answer = {}
    taker = threading.Thread(target=lambda: answer.update(
        guest_net.tcp_receive(port=port, size=size, limit_s=10)))
    taker.start()
    block, stream = guest_net.stream_block(7), bytearray()
    while len(stream) < size:
        struct.pack_into('!Q', block, 0, len(stream))
        stream += block[:size - len(stream)]
    with guest_net.connect('127.0.0.1', port, 5) as sock:
        sock.sendall(spoil(stream))
        sock.shutdown(socket.SHUT_WR)
        sock.recv(100)
    taker.join(10)
    return answer['verdict']


def flip(stream):
    stream[4_000_000] ^= 1
    return stream


def swap_blocks(stream):
    size = guest_net.BLOCK
    return stream[size:2 * size] + stream[:size] + stream[2 * size:]


def test_streams_are_compared():
    assert received_stream(lambda stream: stream) == 'right'
    for spoil in (flip, swap_blocks, lambda stream: stream[:-1], lambda stream: stream + b'x'):
        assert received_stream(spoil) != 'right'
