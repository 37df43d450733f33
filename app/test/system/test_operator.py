# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""What an operator does with a network device that serves a guest."""

import os
import re
import resource
import time
from types import SimpleNamespace

import pytest

import pcapng
from daemon import Prompt
from linux import (boot, connect_pair, exchange, expect_all, linux_kernel, ping, serve, transfer,
                   without)
from migration import Nomad
from proc import wait_until
from raw_nic import BASIC, WANTED_PROTOCOL
from traffic import Stream
from vhost_user import Feature, Protocol, bits
from virtio_pci import BASIC as DRIVER
from virtio_pci import NetDriver
from vnet import run_flows

__all__ = ['boot', 'linux_kernel', 'serve']     # fixtures

pytestmark = pytest.mark.ours

FRAMES = 2000
DEVICE = 'vdpa_sw_net0'


class Operator:
    """At the prompt of the daemon that serves."""

    def __init__(self, served):
        self.prompt = Prompt(served.backend.running_program)

    def ask(self, command: str, answer: str) -> str:
        return self.prompt.ask(command, answer)

    def set(self, *words: str, device: str = DEVICE) -> None:
        """Change the device."""
        answer = self.ask(f'set {device} {" ".join(words)}', rf'(?m)^(error: .*|{device}: .*)$')
        assert 'error' not in answer, answer

    def link(self, device: str = DEVICE) -> str:
        """The line `link` of `list`."""
        return self.prompt.list()[device]['link']


@pytest.fixture
def operated(serve):
    """serve() of linux.py, and the operator of what it serves."""
    def start(devargs: str = '', **options):
        served = serve(devargs, options=['--interactive'], **options)
        return served, Operator(served)
    return start


def detected(guest) -> bool:
    text = guest.run('ethtool', 'eth0').out
    return {'yes': True, 'no': False}[re.search(r'Link detected: (\w+)', text).group(1)]


def test_link_down_and_up(operated, boot):
    served, operator = operated()
    with boot(*served.paths) as guest:
        guest.nic_up()
        for run in range(1, 4):
            exchange(guest, FRAMES, run=run)
            operator.set('link', 'down')
            guest.wait_carrier(False)
            assert not detected(guest)
            assert operator.link().startswith('down')
            operator.set('link', 'up')
            guest.wait_carrier(True)
            assert detected(guest)
        exchange(guest, FRAMES, run=9)


def test_cable_is_pulled_in_traffic(operated, boot):
    """Both ends see it; what is sent meanwhile is dropped, not kept."""
    served, operator = operated(sockets=2, joined=True)
    with boot(served.paths[0], name='left') as left, boot(served.paths[1], name='right') as right:
        connect_pair(left, right)
        ping(left, '10.9.0.2', 3)
        for device in (DEVICE, 'vdpa_sw_net1'):
            load = left.begin('send_frames', name='eth0', seconds=1, run=1)
            operator.set('link', 'down', device=device)
            for guest in (left, right):
                guest.wait_carrier(False)
            load.result()
            operator.set('link', 'up', device=device)
            for guest in (left, right):
                guest.wait_carrier(True)
            ping(left, '10.9.0.2', 3)
            ping(right, '10.9.0.1', 3)


def test_mtu_is_the_next_drivers(operated, boot):
    """A running driver keeps the MTU that it read (virtio 1.2, 5.1.4.1), the next one reads anew."""
    served, operator = operated('mtu=9000,' + without(mtu=True))
    with boot(*served.paths) as guest:
        nic = guest.nic_up()
        assert nic['mtu'] == 9000
        operator.set('mtu', '4000')
        exchange(guest, FRAMES, largest=9014, window=24)
        assert operator.link().endswith('mtu 9000')
        guest.unbind(nic)
        wait_until(lambda: operator.link().endswith('mtu 4000'), 5.0, 'the new MTU', 0.1)
        guest.bind(nic)
        assert guest.nic_up()['mtu'] == 4000
        exchange(guest, FRAMES, run=2, largest=4014, window=24)


def test_mac_is_set_before_a_driver_comes(operated, boot):
    served, operator = operated()
    operator.set('mac', '02:00:00:00:aa:01', 'link', 'down')
    operator.set('link', 'up')
    with boot(*served.paths) as guest:
        assert guest.nic_up()['mac'] == '02:00:00:00:aa:01'
        answer = operator.ask(f'set {DEVICE} mac 02:00:00:00:aa:02', '(?m)^error: .*$')
        assert 'mac' in answer and 'no driver' in answer, answer
        exchange(guest, FRAMES)


@pytest.mark.parametrize('words, says', [
    ('nobody link up', 'nobody: no such device'),
    (f'{DEVICE} link sideways', 'link=sideways: expected one of up, down'),
    (f'{DEVICE} speed 10', 'speed=10: unknown key, expected one of link'),
    (f'{DEVICE} link down mtu', 'mtu: expected a value'),
    (f'{DEVICE} link down mtu 1400', 'without mtu='),
    (f'{DEVICE} link down,mtu=1', "must not contain ','"),
])
def test_wrong_change(operated, words, says):
    _, operator = operated()
    answer = operator.ask('set ' + words, '(?m)^error: .*$')
    assert says in answer
    assert operator.link().startswith('up')


class Recorder(Stream):
    """A stream that keeps what it made."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.frames = []

    def make(self) -> bytes:
        self.frames.append(super().make())
        return self.frames[-1]


def capture(operator, path, *words: str) -> None:
    answer = operator.ask(f'capture {DEVICE} {path} {" ".join(words)}',
                          rf'(?m)^(error: .*|{DEVICE}: .*)$')
    assert 'error' not in answer, answer


def loop(nic, count: int, **options):
    """Send frames on all pairs of a loopback; the streams that did."""
    streams = [Recorder(number, **options) for number in range(nic.pairs)]
    run_flows(nic.flows(streams), count)
    for stream in streams:
        assert stream.books().clean(), stream.books()
    return streams


FORMATS = {
    'split': dict(features=BASIC),
    'not-mergeable': dict(features=BASIC & ~bits(Feature.MRG_RXBUF)),
    'packed': dict(features=BASIC | bits(Feature.RING_PACKED, Feature.INDIRECT_DESC),
                   shape='indirect'),
    'many-buffers': dict(features=BASIC, rx_buffer=256, shape='chained'),
}


@pytest.mark.parametrize('way', sorted(FORMATS))
def test_capture_is_what_was_sent(operated, nics, folder, way):
    served, operator = operated(pairs=2)
    path = folder / 'all.pcapng'
    nic = nics(pairs=2, **FORMATS[way]).bring_up(served.paths[0])
    loop(nic, 50, seed=7)               # before
    began = time.time()
    capture(operator, path)
    streams = loop(nic, 300)
    capture(operator, 'off')
    ended = time.time()
    loop(nic, 50, seed=8)               # after
    name, captured = pcapng.read(path)
    assert name == DEVICE
    for number, stream in enumerate(streams):
        for direction in ('in', 'out'):
            frames = [one.data for one in captured
                      if (one.queue, one.direction) == (number, direction)]
            assert frames == stream.frames
    assert all(one.original == len(one.data) for one in captured)
    assert all(began - 0.1 <= one.time_s <= ended + 0.1 for one in captured)
    assert len(captured) == 4 * 300
    assert pcapng.read_by_tcpdump(path) == [one.data for one in captured]
    stats = operator.ask(f'stats {DEVICE}', r'tx1 .*captured \d+.*\n')
    assert re.findall(r'captured (\d+) capture_dropped (\d+)', stats) == [('300', '0')] * 4


def test_capture_cuts_frames(operated, nics, folder):
    served, operator = operated()
    path = folder / 'cut.pcapng'
    capture(operator, path, 'snaplen', '100')
    nic = nics().bring_up(served.paths[0])
    stream, = loop(nic, 100)
    capture(operator, 'off')
    _, captured = pcapng.read(path)
    sent = [one for one in captured if one.direction == 'out']
    assert [one.data for one in sent] == [frame[:100] for frame in stream.frames]
    assert [one.original for one in sent] == [len(frame) for frame in stream.frames]
    assert len(pcapng.read_by_tcpdump(path)) == 200


def test_capture_of_both_ends_of_a_pair(operated, nics, folder):
    """Each device has a file of its own; what one end sends the other receives."""
    served, operator = operated(sockets=2, joined=True)
    paths = [folder / 'left.pcapng', folder / 'right.pcapng']
    ends = [nics().bring_up(path) for path in served.paths]
    wait_until(lambda: operator.link().startswith('up'), 5.0, 'the link is up')
    for number, path in enumerate(paths):
        operator.set('capture', str(path), device=f'vdpa_sw_net{number}')
    stream = Recorder()
    ends[0].net[0].send([stream.make() for _ in range(50)])
    came = []

    def arrived() -> bool:
        came.extend(ends[1].net[0].receive())
        return len(came) == 50
    wait_until(arrived, 5.0, '50 frames arrive', 0.001)
    assert came == stream.frames
    for number, (path, direction) in enumerate(zip(paths, ('out', 'in'))):
        operator.set('capture', 'off', device=f'vdpa_sw_net{number}')
        name, captured = pcapng.read(path)
        assert name == f'vdpa_sw_net{number}'
        assert [(one.direction, one.data) for one in captured] == \
            [(direction, frame) for frame in stream.frames]


def refused(operator, path, *words: str) -> str:
    return operator.ask(f'capture {DEVICE} {path} {" ".join(words)}', r'(?m)^error: .*$')


def test_capture_file_that_may_not_be_written(operated, folder):
    """Nobody can lead the frames of a guest elsewhere, or hold the daemon up."""
    _, operator = operated()
    there = folder / 'there'
    there.write_text('mine')
    (folder / 'link').symlink_to(there)
    assert 'symbolic link' in refused(operator, folder / 'link')
    os.link(there, folder / 'twin')
    assert 'another name' in refused(operator, there)
    (folder / 'twin').unlink()
    assert there.read_text() == 'mine'
    os.mkfifo(folder / 'pipe')
    assert 'error: capture=' in refused(operator, folder / 'pipe')
    assert 'No such file' in refused(operator, folder / 'none' / 'file')
    assert 'error: capture=' in refused(operator, folder)
    assert 'regular file' in refused(operator, '/dev/full')
    assert 'snaplen=10: expected a number from 64' in refused(operator, there, 'snaplen', '10')
    assert 'expected capture=FILE' in refused(operator, 'off', 'snaplen', '100')
    assert 'is not captured' in refused(operator, 'off')
    assert 'expected one of' in refused(operator, there, 'colour', 'red')
    assert there.read_text() == 'mine'
    there.chmod(0o666)
    capture(operator, there)                    # overwritten, as by tcpdump -w
    assert there.stat().st_mode & 0o777 == 0o600
    assert 'already' in refused(operator, folder / 'second')
    capture(operator, 'off')
    assert pcapng.read(there) == (DEVICE, [])
    assert pcapng.read_by_tcpdump(there) == []


def test_capture_ends_when_its_file_is_full(operated, nics, folder):
    """The guest does not notice; what was written can be read."""
    served, operator = operated()
    path = folder / 'full.pcapng'
    limit = 300 << 10               # the daemon's log stays far below it
    resource.prlimit(served.backend.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    nic = nics().bring_up(served.paths[0])
    capture(operator, path)
    stream = Recorder()
    run_flows(nic.flows([stream]), 1000)
    served.backend.running_program.wait_output('capture to .* ended: File too large', 10.0)
    run_flows(nic.flows([stream]), 200)
    assert stream.books().clean(), stream.books()
    answer = refused(operator, 'off')
    assert 'had ended: File too large' in answer
    _, captured = pcapng.read(path)
    assert len(captured) > 100
    assert path.stat().st_size <= limit
    assert pcapng.read_by_tcpdump(path) == [one.data for one in captured]
    sent = [one.data for one in captured if one.direction == 'out']
    assert sent == stream.frames[:len(sent)]
    resource.prlimit(served.backend.pid, resource.RLIMIT_FSIZE,
                     (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    capture(operator, path)
    run_flows(nic.flows([stream]), 50)
    capture(operator, 'off')
    assert len(pcapng.read(path)[1]) == 100


def test_captures_begin_and_end_in_traffic(operated, boot, folder, is_long):
    """None of it costs the guest a frame; the file of a device that goes is whole."""
    served, operator = operated()
    with boot(*served.paths) as guest:
        guest.nic_up()
        traffic = guest.begin('exchange', name='eth0', count=200_000 if is_long else 20_000)
        rounds = 0
        while not traffic.done():
            path = folder / f'{rounds}.pcapng'
            capture(operator, path)
            capture(operator, 'off')
            pcapng.read(path)
            path.unlink()
            rounds += 1
        assert rounds > 3
        expect_all(traffic.result(60), 200_000 if is_long else 20_000)
        capture(operator, folder / 'last.pcapng')
        exchange(guest, 500, run=3)
    served.backend.stop()
    _, captured = pcapng.read(folder / 'last.pcapng')
    stats = [one.direction for one in captured if one.data[12:14] == b'\x08\x00']
    assert stats.count('in') >= 500 and stats.count('out') >= 500


MAC = bytes.fromhex('020000001234')


def rarp(mac: bytes) -> bytes:
    """A reverse request of a host for its own address (RFC 903), which announces it."""
    frame = b'\xff' * 6 + mac + bytes.fromhex('8035 0001 0800 06 04 0003')
    return (frame + mac + bytes(4) + mac + bytes(4)).ljust(60, b'\0')


def peer_of(nics, path, **options):
    """The other end of a pair: a raw client that collects what comes."""
    nic = nics(**options).bring_up(path)
    nic.came = []
    return nic


def comes(nic, frame: bytes, timeout_s: float = 10.0) -> None:
    def came() -> bool:
        nic.came += nic.net[0].receive()
        return frame in nic.came
    wait_until(came, timeout_s, f'{frame[:42].hex()} comes')


@pytest.mark.parametrize('more', [0, bits(Feature.RING_PACKED)], ids=['split', 'packed'])
def test_front_end_has_its_guest_announced(operated, nics, more):
    """SEND_RARP, as a raw client sends it, also before the rings run."""
    served, operator = operated(sockets=2, joined=True)
    peer = peer_of(nics, served.paths[1], features=BASIC | more)
    nic = nics(protocol=WANTED_PROTOCOL | bits(Protocol.RARP)).connect(served.paths[0])
    nic.negotiate()
    assert nic.vu.protocol >> Protocol.RARP & 1
    nic.agree()
    nic.vu.send_rarp(MAC)
    nic.start()
    comes(peer, rarp(MAC))
    for number in range(5):
        mac = MAC[:5] + bytes([number])
        nic.vu.send_rarp(mac)
        comes(peer, rarp(mac))
    for wrong in (b'\xff' * 6, bytes(6)):
        nic.vu.send_rarp(wrong)
    stream = Recorder()
    nic.net[0].send([stream.make()])
    comes(peer, stream.frames[0])
    assert set(peer.came) == {rarp(MAC), stream.frames[0],
                              *(rarp(MAC[:5] + bytes([n])) for n in range(5))}
    served.backend.expect_alive()


def test_guest_is_announced_where_it_arrives(operated, nics, need_qemu, programs, tools, folder):
    """A stock QEMU has its guest announced at the destination of a migration."""
    served, operator = operated(sockets=4, joined=True)
    peers = [peer_of(nics, served.paths[n]) for n in (1, 3)]
    ends = SimpleNamespace(paths=served.paths[0::2], pairs=1)
    nomad = Nomad(programs, tools, folder, ends, 1)
    nomad.driver = NetDriver(nomad.machine, wanted=DRIVER, pairs=1).start()
    nomad.move()
    query = nomad.machine.qmp.execute('query-rx-filter')
    mac = bytes.fromhex(query[0]['main-mac'].replace(':', ''))
    comes(peers[1], rarp(mac))
    peers[0].came += peers[0].net[0].receive()
    assert rarp(mac) not in peers[0].came


TAGS = {
    'tagged': '8100 2005',
    'priority': '8100 e000',
    'twice': '88a8 0064 8100 0065',
}


@pytest.mark.parametrize('joined', [False, True], ids=['loopback', 'peer'])
@pytest.mark.parametrize('tags', sorted(TAGS))
def test_vlan_frames_pass_whole(operated, nics, tags, joined):
    served, operator = operated(sockets=2, joined=joined)
    nic = nics(max_frame=1522).bring_up(served.paths[0])
    to = peer_of(nics, served.paths[1], max_frame=1522) if joined else nic
    if joined:
        wait_until(lambda: operator.link().startswith('up'), 5.0, 'the link is up')
    tag = bytes.fromhex(TAGS[tags])
    frames = [frame[:12] + tag + frame[12:] for frame in
              (Stream(0, sizes=(60, 1514), seed=seed).make() for seed in range(100))]
    nic.net[0].send(frames)
    came = []

    def all_came() -> bool:
        came.extend(to.net[0].receive())
        return len(came) == len(frames)
    wait_until(all_came, 10.0, 'all frames come', 0.001)
    assert came == frames


def test_two_linux_guests_talk_in_a_vlan(operated, boot, folder, linux_kernel):
    """The kernel's own VLAN interfaces; the tag is on the wire."""
    served, operator = operated(sockets=2, joined=True)
    path = folder / 'vlan.pcapng'
    capture(operator, path)
    with boot(served.paths[0], name='left') as left, boot(served.paths[1], name='right') as right:
        connect_pair(left, right)
        for guest, address in ((left, '10.8.0.1/24'), (right, '10.8.0.2/24')):
            for module in ('llc', 'stp', 'garp', 'mrp', '8021q'):
                guest.run('insmod', str(linux_kernel.parent / 'modules' / f'{module}.ko'))
            guest.sh(f'''ip link add link eth0 name v5 type vlan id 5
                         ip address add {address} dev v5
                         ip link set v5 up''')
        ping(left, '10.8.0.2')
        transfer(left, right, '10.8.0.2', 5 << 20)
        operator.set('link', 'down')
        left.wait_carrier(False, 'v5')
        operator.set('link', 'up')
        left.wait_carrier(True, 'v5')
        ping(left, '10.8.0.2')
    capture(operator, 'off')
    _, captured = pcapng.read(path)
    tagged = [one for one in captured if one.data[12:18] == bytes.fromhex('8100 0005 0800')]
    for direction in ('in', 'out'):
        assert sum(one.direction == direction for one in tagged) >= 40     # the pings alone
