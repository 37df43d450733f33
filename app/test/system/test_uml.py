# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A stock Linux kernel (User Mode Linux) as front end, with its own virtio-net driver.

Tests marked `ours` ask for what stock net_vhost has not: a control virtqueue, a device's own MAC and
MTU, a link that follows the peer; rings set up anew without a word of their end (after a bind, stock
22.11 answered descriptors that were not there); a guest killed in traffic (its interrupts are UNIX
sockets here, and stock net_vhost dies of SIGPIPE).
"""

import json
from typing import List

import pytest

from linux import (ACCESS_PLATFORM, CONTROL, CSUM, EVENT_IDX, GUEST_CSUM, IN_ORDER, INDIRECT_DESC,
                   MQ, MRG_RXBUF, RING_PACKED, VERSION_1, boot, connect_pair, exchange, expect_all,
                   linux_kernel, ping, serve, transfer, without)
from migration import mode_of, switch

__all__ = ['boot', 'linux_kernel', 'serve']     # fixtures

FRAMES = 5000
MIB = 1 << 20

SHAPES = {
    'no-control': without(*CONTROL),
    'split': without(RING_PACKED),
    'split-no-control': without(RING_PACKED, *CONTROL),
    'split-plain': without(RING_PACKED, IN_ORDER, EVENT_IDX, INDIRECT_DESC),
    'packed-plain': without(IN_ORDER, EVENT_IDX, INDIRECT_DESC),
    'no-mergeable': without(MRG_RXBUF),
    'split-no-mergeable': without(MRG_RXBUF, RING_PACKED),
    'no-csum': without(CSUM, GUEST_CSUM),
    'legacy': without(VERSION_1, ACCESS_PLATFORM, RING_PACKED, IN_ORDER),
}
SHAPES_OURS = [pytest.param(args, id=name, marks=pytest.mark.ours) for name, args in SHAPES.items()]
ANY_SHAPE = [pytest.param('', id='default'), *SHAPES_OURS]


@pytest.mark.parametrize('devargs', ANY_SHAPE)
def test_frames_come_back(serve, boot, is_long, devargs):
    served = serve(devargs)
    with boot(*served.paths) as guest:
        guest.nic_up()
        exchange(guest, 200_000 if is_long else FRAMES)
    served.backend.expect_alive()


@pytest.mark.parametrize('flows', [1, 4])
def test_two_devices_in_one_guest(serve, boot, flows):
    served = serve(sockets=2)
    with boot(*served.paths) as guest:
        names = [guest.nic_up(index)['name'] for index in (0, 1)]
        under_way = [guest.begin('exchange', name=name, count=FRAMES, run=run, flows=flows)
                     for run, name in enumerate(names)]
        for answer in under_way:
            expect_all(answer.result(60), FRAMES)


@pytest.mark.ours
@pytest.mark.parametrize('devargs', ANY_SHAPE[:3])
def test_mac_is_the_devices(serve, boot, devargs):
    served = serve('mac=02:12:34:56:78:9a,' + devargs)
    with boot(*served.paths) as guest:
        assert guest.nic_up()['mac'] == '02:12:34:56:78:9a'
        guest.run('ip', 'link', 'set', 'eth0', 'address', '02:aa:bb:cc:dd:ee')
        assert guest.nic()['mac'] == '02:aa:bb:cc:dd:ee'
        exchange(guest, FRAMES)


@pytest.mark.ours
def test_same_name_same_mac(serve, boot):
    served = serve()
    with boot(*served.paths, name='first') as guest:
        mac = guest.nic()['mac']
    with boot(*served.paths, name='second') as guest:
        assert guest.nic()['mac'] == mac


@pytest.mark.ours
@pytest.mark.parametrize('devargs', ANY_SHAPE[:3])
def test_receive_mode(serve, boot, devargs):
    served = serve(devargs)
    with boot(*served.paths) as guest:
        guest.nic_up()
        guest.sh('''
            for mode in promisc allmulticast multicast; do
                ip link set eth0 $mode on; ip link set eth0 $mode off
            done
            ip link set eth0 promisc on
            for n in 1 2 3 4 5 6 7 8; do ip maddress add 33:33:00:00:00:0$n dev eth0; done
            for n in 2 4 6 8; do ip maddress del 33:33:00:00:00:0$n dev eth0; done''')
        exchange(guest, FRAMES)
        guest.run('ip', 'link', 'set', 'eth0', 'promisc', 'off')
        exchange(guest, FRAMES, run=2)
        log = guest.program.text()
        assert 'virtio_net' in log and 'fail' not in log[log.index('Run '):].lower(), log[-2000:]


@pytest.mark.ours
@pytest.mark.parametrize('shape', ['', RING_PACKED, MRG_RXBUF], ids=['default', 'split', 'nomrg'])
def test_mtu_is_the_devices(serve, boot, shape):
    hidden = [shape] if shape != '' else []
    served = serve('mtu=9000,' + without(*hidden, mtu=True))
    with boot(*served.paths) as guest:
        assert guest.nic_up()['mtu'] == 9000
        exchange(guest, FRAMES, largest=9014, window=24)
        guest.run('ip', 'link', 'set', 'eth0', 'mtu', '1400')
        exchange(guest, FRAMES, run=2, largest=1414)
        assert guest.run('ip', 'link', 'set', 'eth0', 'mtu', '9001', check=False).rc != 0


def pairs_in_use(guest) -> int:
    text = guest.run('ethtool', '-l', 'eth0').out
    return int(text.split('Combined:')[-1].split()[0])


@pytest.mark.ours
@pytest.mark.parametrize('hidden', [(), (RING_PACKED,)], ids=['packed', 'split'])
def test_queue_pairs_are_changed(serve, boot, hidden):
    served = serve(without(*hidden, pairs=2), pairs=2)
    with boot(*served.paths) as guest:
        guest.nic_up()
        run = 0
        for pairs in (1, 2, 1, 2):
            guest.run('ethtool', '-L', 'eth0', 'combined', str(pairs))
            assert pairs_in_use(guest) == pairs
            run += 1
            exchange(guest, FRAMES, run=run, flows=8)
        assert min(sent_by_queue(guest)) > FRAMES // 10


def sent_by_queue(guest) -> List[int]:
    """Frames that went through each transmit queue: proof that the second pair was used."""
    disciplines = json.loads(guest.run('tc', '-s', '-j', 'qdisc', 'show', 'dev', 'eth0').out)
    return [one['packets'] for one in disciplines if 'parent' in one]


@pytest.mark.ours
def test_queue_pairs_are_changed_in_traffic(serve, boot):
    served = serve(without(pairs=2), pairs=2)
    with boot(*served.paths) as guest:
        guest.nic_up()
        traffic = guest.begin('exchange', name='eth0', count=4 * FRAMES, flows=8, idle_s=4)
        while not traffic.done():
            for pairs in '12':
                guest.run('ethtool', '-L', 'eth0', 'combined', pairs)
        result = traffic.result()       # a flow may change its queue, so its order may change
        assert result['changed'] == 0 and result['received'] > FRAMES, result
        exchange(guest, FRAMES, run=2, flows=8)


@pytest.mark.ours
def test_more_pairs_than_offered_are_refused(serve, boot):
    served = serve(without(pairs=2), pairs=2)
    with boot(*served.paths) as guest:
        guest.nic_up()
        assert guest.run('ethtool', '-L', 'eth0', 'combined', '3', check=False).rc != 0
        exchange(guest, FRAMES, flows=4)


@pytest.mark.ours
def test_two_pairs_without_control_are_one(serve, boot):
    served = serve(without(MQ, *CONTROL, pairs=2), pairs=2)
    with boot(*served.paths) as guest:
        assert guest.nic_up()['pairs'] == 1
        exchange(guest, FRAMES, flows=4)


@pytest.mark.parametrize('devargs', ANY_SHAPE[:3])
def test_interface_down_and_up(serve, boot, devargs):
    served = serve(devargs)
    with boot(*served.paths) as guest:
        guest.nic_up()
        for run in range(1, 6):
            exchange(guest, 1000, run=run)
            guest.run('ip', 'link', 'set', 'eth0', 'down')
            guest.run('ip', 'link', 'set', 'eth0', 'up')
            guest.wait_carrier(True)
        exchange(guest, FRAMES, run=9)


@pytest.mark.ours
@pytest.mark.parametrize('devargs', ANY_SHAPE[:3])
def test_driver_unbound_and_bound(serve, boot, devargs):
    served = serve(devargs)
    with boot(*served.paths) as guest:
        nic = guest.nic_up()
        for run in range(1, 6):
            exchange(guest, 1000, run=run)
            guest.unbind(nic)
            nic = guest.bind(nic)
            guest.nic_up()
        exchange(guest, FRAMES, run=9)


@pytest.mark.ours
@pytest.mark.parametrize('devargs', ANY_SHAPE[:2])
def test_driver_unbound_in_traffic(serve, boot, devargs):
    served = serve(devargs)
    with boot(*served.paths) as guest:
        nic = guest.nic_up()
        for run in range(1, 4):
            traffic = guest.begin('exchange', name=nic['name'], count=1_000_000, run=run)
            guest.sh('sleep 0.3')
            guest.unbind(nic)
            assert not traffic_ended_well(traffic)
            nic = guest.bind(nic)
            guest.nic_up()
            exchange(guest, FRAMES, run=10 + run)


def traffic_ended_well(answer) -> bool:
    """False if the exchange broke off because its interface went away."""
    try:
        answer.result(10)
        return True
    except AssertionError as error:
        assert 'Network is down' in str(error) or 'No such device' in str(error), error
        return False


@pytest.mark.ours
@pytest.mark.parametrize('hidden', [(), (RING_PACKED,)], ids=['packed', 'split'])
def test_two_pairs_survive_a_bind(serve, boot, hidden):
    served = serve(without(*hidden, pairs=2), pairs=2)
    with boot(*served.paths) as guest:
        for run in range(1, 4):
            nic = guest.nic_up()
            guest.run('ethtool', '-L', 'eth0', 'combined', '2')
            exchange(guest, FRAMES, run=run, flows=8)
            guest.unbind(nic)
            guest.bind(nic)


JOINED = [pytest.param('', id='default')]
JOINED += [pytest.param(SHAPES[name], id=name, marks=pytest.mark.ours)
           for name in ('split', 'no-control', 'no-csum', 'no-mergeable', 'split-plain')]


@pytest.mark.parametrize('devargs', JOINED)
def test_two_guests_talk(serve, boot, is_long, record_property, devargs):
    served = serve(devargs, sockets=2, joined=True)
    with boot(served.paths[0], name='left') as left, boot(served.paths[1], name='right') as right:
        connect_pair(left, right)
        ping(left, '10.9.0.2')
        ping(right, '10.9.0.1')
        size = 1024 * MIB if is_long or not devargs else 100 * MIB
        record_property('megabytes_per_second', round(transfer(left, right, '10.9.0.2', size)))
        transfer(right, left, '10.9.0.1', 10 * MIB + 4321, port=5002)


@pytest.mark.parametrize('devargs', JOINED[:2])
def test_two_guests_talk_both_ways_at_once(serve, boot, is_long, devargs):
    served = serve(devargs, sockets=2, joined=True)
    size = (1024 if is_long else 64) * MIB
    with boot(served.paths[0], name='left') as left, boot(served.paths[1], name='right') as right:
        connect_pair(left, right)
        under_way = []
        for port, sender, receiver, address in ((5001, left, right, '10.9.0.2'),
                                                (5002, right, left, '10.9.0.1')):
            under_way += [receiver.begin('tcp_receive', port=port, size=size),
                          sender.begin('tcp_send', address=address, port=port, size=size)]
        for answer in under_way:
            assert answer.result(60)['verdict'] == 'right'


@pytest.mark.ours
@pytest.mark.parametrize('hidden', [(GUEST_CSUM,), (CSUM,), (GUEST_CSUM, MRG_RXBUF),
                                    (CSUM, GUEST_CSUM, RING_PACKED)],
                         ids=['guest-csum', 'csum', 'guest-csum-mergeable', 'both-packed'])
def test_one_of_two_guests_agrees_to_less(serve, boot, hidden):
    """A frame whose checksum is not complete gets one where the receiver wants it."""
    served = serve(sockets=2, joined=True)
    with boot(served.paths[0], name='left') as left, \
            boot(served.hiding(1, *hidden), name='right') as right:
        connect_pair(left, right)
        assert not set(hidden) & set(right.nic()['features'])
        assert {CSUM, GUEST_CSUM} <= set(left.nic()['features'])
        transfer(left, right, '10.9.0.2', 10 * MIB)
        transfer(right, left, '10.9.0.1', 10 * MIB, port=5002)


@pytest.mark.ours
@pytest.mark.parametrize('devargs', JOINED[:2])
def test_receiver_killed_under_load(serve, boot, devargs):
    served = serve(devargs, sockets=2, joined=True)
    with boot(served.paths[0], name='left') as left:
        left.nic_up(address='10.9.0.1/24', wait=False)
        for run in range(1, 3):
            with boot(served.paths[1], name=f'right{run}') as right:
                right.nic_up(address='10.9.0.2/24', wait=False)
                left.wait_carrier(True)
                right.wait_carrier(True)
                ping(left, '10.9.0.2', 3)
                load = left.begin('send_frames', name='eth0', seconds=1, run=run)
                got = right.call('receive_frames', name='eth0', run=run, count=500,
                                 first_may_miss=True)
                assert got['received'] >= 500 and got['changed'] == got['reordered'] == 0, got
                right.kill()
                served.backend.expect_alive()
                left.wait_carrier(False)
                assert load.result()['sent'] > 500
        with boot(served.paths[1], name='last') as right:
            right.nic_up(address='10.9.0.2/24', wait=False)
            left.wait_carrier(True)
            ping(left, '10.9.0.2')
            transfer(left, right, '10.9.0.2', 10 * MIB)


@pytest.mark.ours
@pytest.mark.parametrize('devargs', ANY_SHAPE[:2])
def test_guest_killed_in_traffic(serve, boot, devargs):
    served = serve(devargs)
    for run in range(1, 4):
        with boot(*served.paths, name=f'guest{run}') as guest:
            guest.nic_up()
            guest.begin('exchange', name='eth0', count=1_000_000)
            guest.sh('sleep 0.2')
            guest.kill()
        served.backend.expect_alive()
    with boot(*served.paths, name='last') as guest:
        guest.nic_up()
        exchange(guest, FRAMES)


def test_guests_leave_nothing_behind(serve, boot):
    served = serve()
    before = None
    for number in range(4):
        with boot(*served.paths, name=f'guest{number}') as guest:
            guest.nic_up()
            exchange(guest, 1000)
            if number % 2:
                guest.kill()
        if number == 1:
            before = served.backend.settled_resources()
    served.backend.expect_no_growth(before)


def test_eight_guests_at_once(serve, boot, is_long):
    served = serve(sockets=8)
    guests = [boot(path, name=f'guest{number}') for number, path in enumerate(served.paths)]
    for guest in guests:
        guest.nic_up()
    under_way = [guest.begin('exchange', name='eth0', count=(20 if is_long else 1) * FRAMES,
                             run=number, idle_s=10) for number, guest in enumerate(guests)]
    for answer in under_way:
        expect_all(answer.result(120), (20 if is_long else 1) * FRAMES)
    for guest in guests:
        guest.off()
    served.backend.expect_alive()


def test_guest_outlives_its_back_end(serve, boot):
    """The kernel warns of the closed sockets, and neither panics nor hangs."""
    served = serve()
    with boot(*served.paths) as guest:
        guest.nic_up()
        exchange(guest, 1000)
        served.backend.kill()
        guest.sh('sleep 0.2')
        guest.off(expect_clean=False)


@pytest.mark.ours
def test_daemon_stops_with_guests_at_work(serve, boot):
    served = serve(sockets=2)
    with boot(served.paths[0], name='left') as left, boot(served.paths[1], name='right') as right:
        for guest in (left, right):
            guest.nic_up()
            guest.begin('exchange', name='eth0', count=1_000_000)
        left.sh('sleep 0.2')
        assert served.backend.stop() == 0
        for guest in (left, right):
            guest.off(expect_clean=False)


@pytest.mark.ours
@pytest.mark.parametrize('devargs', ['', without(RING_PACKED, IN_ORDER)],
                         ids=['packed-in-order', 'split-any-order'])
def test_relayed_and_direct_by_turns(serve, boot, is_long, devargs):
    """A driver that sleeps until it is interrupted: all its frames come back, once and in order."""
    served = serve(devargs, options=['--interactive'])
    turns, rest = (60, '1') if is_long else (4, '0.3')
    with boot(*served.paths) as guest:
        guest.nic_up()
        for run in range(turns):
            relayed = run % 2 == 0
            under_way = guest.begin('exchange', name='eth0', count=FRAMES, run=run, flows=2)
            before = switch(served.backend, 0, relayed)['relayed']
            guest.sh('sleep ' + rest)
            expect_all(under_way.result(60), FRAMES)
            exchange(guest, 500, run=1000 + run)
            after = mode_of(served.backend, 0)['relayed']
            assert after - before >= 1000 if relayed else after == before
        assert mode_of(served.backend, 0)['switches'] >= turns - 1
    served.backend.expect_alive()
