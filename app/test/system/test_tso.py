# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""TCP segmentation between two Linux guests on sw_net's backend peer."""

import pytest

from linux import boot, connect_pair, linux_kernel, ping, serve, transfer

__all__ = ['boot', 'linux_kernel', 'serve']     # fixtures

MIB = 1 << 20
GUEST_TSO4, GUEST_TSO6, GUEST_ECN, HOST_TSO4, HOST_TSO6 = 7, 8, 9, 11, 12
MRG_RXBUF = 15
ETHERNET_MAX = 1514


def received(guest):
    """Frames and bytes that the guest's interface has taken in."""
    text = guest.sh('cd /sys/class/net/eth0/statistics; cat rx_packets rx_bytes').out
    return [int(number) for number in text.split()]


def errors(guest):
    """Segments with a wrong checksum, by the guest's TCP."""
    rows = [line.split() for line in guest.run('cat', '/proc/net/snmp').out.splitlines()
            if line.startswith('Tcp:')]
    return int(dict(zip(*rows))['InCsumErrors'])


def bytes_a_frame(guest, before):
    frames, size = [now - then for now, then in zip(received(guest), before)]
    return size / frames


@pytest.mark.ours
@pytest.mark.parametrize('tso', ['on', 'off'])
def test_two_guests(serve, boot, is_long, record_property, tso):
    served = serve(f'tso={tso}', sockets=2, joined=True)
    size = (1024 if is_long else 64) * MIB
    with boot(served.paths[0], name='left') as left, boot(served.paths[1], name='right') as right:
        connect_pair(left, right)
        bits = {GUEST_TSO4, GUEST_TSO6, HOST_TSO4, HOST_TSO6} & set(left.nic()['features'])
        assert len(bits) == (4 if tso == 'on' else 0)
        ping(left, '10.9.0.2')
        before = received(right)
        rate = transfer(left, right, '10.9.0.2', size, timeout_s=240)
        record_property('megabytes_per_second', round(rate))
        mean = bytes_a_frame(right, before)
        assert mean > 4 * ETHERNET_MAX if tso == 'on' else mean <= ETHERNET_MAX
        transfer(right, left, '10.9.0.1', 10 * MIB + 4321, port=5002)
        assert errors(left) == errors(right) == 0


@pytest.mark.ours
@pytest.mark.parametrize('hidden', [(), (MRG_RXBUF,)], ids=['mergeable', 'no-mergeable'])
def test_frames_are_cut_for_who_did_not_agree(serve, boot, is_long, record_property, hidden):
    served = serve('tso=on', sockets=2, joined=True)
    size = (256 if is_long else 32) * MIB
    with boot(served.paths[0], name='left') as left, \
            boot(served.hiding(1, GUEST_TSO4, GUEST_TSO6, GUEST_ECN, *hidden),
                 name='right') as right:
        connect_pair(left, right)
        assert GUEST_TSO4 not in right.nic()['features'] and HOST_TSO4 in left.nic()['features']
        before = received(right)
        rate = transfer(left, right, '10.9.0.2', size, timeout_s=240)
        record_property('megabytes_per_second', round(rate))
        assert bytes_a_frame(right, before) <= ETHERNET_MAX
        transfer(right, left, '10.9.0.1', 10 * MIB + 4321, port=5002)
        assert errors(left) == errors(right) == 0
