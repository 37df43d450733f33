# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""sw_net on an ethdev: TAP interfaces of the host's kernel, rings, memory shared with a process.

The host's side is a network namespace that the test makes; TCP streams are compared byte for byte.
"""

import shutil
from typing import List

import pytest

from backend import VdpaDaemon, cpus
from daemon import READY
from frames import Frames, expect_right
from hugepages import huge_pages
from linux import boot, linux_kernel, ping, transfer
from netns import Namespace, host, need_tap

__all__ = ['boot', 'host', 'huge_pages', 'linux_kernel', 'need_tap']      # fixtures

MIB = 1 << 20
HOST, GUEST = '10.9.0.1', '10.9.0.2'


class PortDaemon(VdpaDaemon):
    """One device on an ethdev, which is made by `vdev`; inside a namespace if there is one."""

    def __init__(self, *arguments, vdev: str, port: str = '', namespace=None, **options):
        super().__init__(*arguments, **options)
        self.vdev, self.namespace = vdev, namespace
        self.port = port or vdev.split(',')[0]

    def argv(self) -> List[str]:
        control, data = cpus()
        argv = [str(self.tools.daemon), *self.eal(f'0@{control}'), '--vdev', self.vdev, '--vdev',
                f'vdpa_sw_net0,backend=port,port={self.port},'
                f'max_vqp={self.pairs},{self.devargs[0]}',
                '--', '--iface', str(self.folder / 'v'), '--workers', str(data), *self.options]
        return self.namespace.argv(argv) if self.namespace else argv

    def start(self) -> 'PortDaemon':
        """Its sockets are not in this namespace's list: it says itself when they are there."""
        self.program = self.programs.start(self.argv(), name=self.name,
                                           env={'RUNTIME_DIRECTORY': str(self.folder)})
        self.program.wait_output(READY, 15.0)
        return self


@pytest.fixture
def serve_port(programs, tools, folder):
    if tools.daemon is None:
        pytest.skip('dpdk-vdpa not found: give --builddir')
    return lambda devargs='tso=off', **options: PortDaemon(programs, tools, folder,
                                                           devargs=devargs, **options).start()


@pytest.fixture
def serve_tap(serve_port, host):
    return lambda devargs='tso=off', **options: serve_port(
        devargs, vdev='net_tap0,iface=vtap0', namespace=host, **options)


@pytest.mark.ours
@pytest.mark.parametrize('devargs', ['tso=off', 'tso=on'])
def test_kernels_of_host_and_guest_talk(serve_tap, host, boot, is_long, record_property, devargs):
    daemon = serve_tap(devargs)
    size = (1024 if is_long else 64) * MIB
    with boot(daemon.path) as guest:
        guest.nic_up(address=GUEST + '/24')
        host.up('vtap0', HOST + '/24')
        host.ping(GUEST)
        ping(guest, HOST)
        for name, sender, receiver, address, port in (('to_host', guest, host, HOST, 5001),
                                                      ('to_guest', host, guest, GUEST, 5002)):
            rate = transfer(sender, receiver, address, size, port=port, timeout_s=240)
            record_property(f'megabytes_per_second_{name}', round(rate))
        errors = guest.run('cat', '/proc/net/snmp').out + host.run('cat', '/proc/net/snmp').stdout
        assert wrong_checksums(errors) == 0, errors
    daemon.expect_alive()


def wrong_checksums(text: str) -> int:
    """What /proc/net/snmp says of TCP segments with a wrong checksum."""
    rows = [line.split() for line in text.splitlines() if line.startswith('Tcp:')]
    return sum(int(dict(zip(names, values))['InCsumErrors'])
               for names, values in zip(rows[::2], rows[1::2]))


@pytest.mark.ours
def test_two_pairs_on_a_tap_of_two_queues(serve_tap, host, boot):
    daemon = serve_tap(pairs=2)
    with boot(daemon.path) as guest:
        guest.nic_up(address=GUEST + '/24')
        host.up('vtap0', HOST + '/24')
        for pairs in '121':
            guest.run('ethtool', '-L', 'eth0', 'combined', pairs)
            host.ping(GUEST)
            for port in (5001, 5002, 5003):     # other flows, so other queues
                transfer(host, guest, GUEST, MIB, port=port)
                transfer(guest, host, HOST, MIB, port=port)


@pytest.mark.ours
def test_link_of_the_interface_is_the_guests(serve_tap, host, boot, tools):
    daemon = serve_tap()
    with boot(daemon.path) as guest:
        guest.nic_up(address=GUEST + '/24')
        host.up('vtap0', HOST + '/24')
        load = guest.begin('send_frames', name='eth0', seconds=60, count=30000)
        for _ in range(5):
            host.run('ip', 'link', 'set', 'vtap0', 'down')
            guest.wait_carrier(False, limit_s=20)
            host.run('ip', 'link', 'set', 'vtap0', 'up')
            guest.wait_carrier(True, limit_s=20)
        assert load.result(90)['sent'] == 30000
        ping(guest, HOST)
        host.run('ip', 'link', 'delete', 'vtap0')
        if float(tools.dpdk_series) < 25:       # 25.11's net_tap does not notice
            guest.wait_carrier(False, limit_s=20)
    daemon.expect_alive()


@pytest.mark.ours
def test_virtio_user_between_two_taps(serve_tap, host, programs, tools, folder, need_testpmd,
                                      is_long, record_property):
    """The guest is a stock testpmd that forwards between the device and a TAP of its own."""
    daemon = serve_tap()
    far = Namespace(programs, 'far')
    control = cpus()[0]
    runtime = folder / 'front.run'
    runtime.mkdir()
    front = programs.start(far.argv([
        shutil.which('stdbuf') or 'stdbuf', '-oL', str(tools.testpmd), '--no-huge', '-m', '256',
        '--no-pci', '--file-prefix', folder.name + 'front', '--lcores', f'0@{control},1@{control}',
        '--vdev', f'net_virtio_user0,path={daemon.path},queues=1,queue_size=256',
        '--vdev', 'net_tap0,iface=utap0', '--', '-i', '--auto-start', '--no-mlockall',
        '--total-num-mbufs=8192', '--forward-mode=io']),
        name='testpmd', env={'RUNTIME_DIRECTORY': str(runtime)})
    front.wait_output('testpmd> ', 30.0)
    host.up('vtap0', HOST + '/24')
    far.up('utap0', GUEST + '/24')
    host.ping(GUEST)
    far.ping(HOST)
    size = (1024 if is_long else 32) * MIB
    for name, sender, receiver, address in (('to_host', far, host, HOST),
                                            ('to_guest', host, far, GUEST)):
        rate = transfer(sender, receiver, address, size, port=5001, timeout_s=240)
        record_property(f'megabytes_per_second_{name}', round(rate))
    daemon.expect_alive()
    front.expect_running()


@pytest.mark.ours
@pytest.mark.parametrize('ring', ['packed_vq=0,mrg_rxbuf=1', 'packed_vq=1,in_order=1'])
def test_frames_through_a_ring_come_back(serve_port, programs, tools, folder, is_long, ring):
    """The second pair becomes active while the first one carries frames."""
    daemon = serve_port(vdev='net_ring0', pairs=2)
    count = 1_000_000 if is_long else 25_000
    run = Frames(programs, tools, folder, daemon.path, queues=2, devargs='queue_size=256,' + ring,
                 options=['--frames', str(count), '--sizes', '60-1514', '--timeout-s', '20'])
    expect_right(run.result(60 + count / 2_500), 2, count)
    daemon.expect_alive()


class FarProcess:
    """A stock testpmd that sends each frame back on the queue of its ethdev that it came from."""

    def __init__(self, programs, tools, runtime, eal, *options, argv=list):
        data = cpus()[1]
        runtime.mkdir(exist_ok=True)
        self.program = programs.start(argv([
            shutil.which('stdbuf') or 'stdbuf', '-oL', str(tools.testpmd), '--no-pci',
            '--no-telemetry', '--lcores', f'0@{data},1@{data}', *eal, '--', '-i', '--auto-start',
            '--no-mlockall', '--forward-mode=io', '--port-topology=loop', '--rxq=2', '--txq=2',
            *options]), name='testpmd-far', env={'RUNTIME_DIRECTORY': str(runtime)})
        self.program.wait_output('testpmd> ', 30.0)


def expect_frames(daemon, ring: str, count: int) -> None:
    """So many frames on each of two pairs, there and back."""
    run = Frames(daemon.programs, daemon.tools, daemon.folder, daemon.path, queues=2,
                 devargs='queue_size=256,' + ring,
                 options=['--frames', str(count), '--sizes', '60-1514', '--timeout-s', '20'])
    expect_right(run.result(60 + count / 500), 2, count)


RINGS = ('packed_vq=0,mrg_rxbuf=1', 'packed_vq=1,in_order=1')


@pytest.mark.ours
def test_frames_through_another_process_come_back(serve_port, programs, tools, folder,
                                                  need_testpmd, is_long):
    """The other process is killed, and another one takes its place."""
    socket = folder / 'memif.sock'
    daemon = serve_port(vdev=f'net_memif0,role=server,socket-abstract=no,socket={socket}', pairs=2)
    eal = ['--no-huge', '-m', '128', '--file-prefix', folder.name + 'memif',
           '--vdev', f'net_memif0,role=client,socket-abstract=no,socket={socket}']
    log, seen = daemon.running_program, 0
    for ring in RINGS:
        far = FarProcess(programs, tools, folder / 'memif.run', eal, '--total-num-mbufs=8192')
        log.wait_output('port net_memif0 has its link up', 30.0, seen)
        expect_frames(daemon, ring, 500_000 if is_long else 2_000)
        seen = len(log.logged())
        far.program.kill()
        log.wait_output('port net_memif0 has its link down', 30.0, seen)
    daemon.expect_alive()


class HugeDaemon(PortDaemon):
    """With memory that secondary processes map, too; its device is on net_ring_near."""

    def eal(self, lcores: str) -> List[str]:
        return ['--huge-dir', str(self.namespace.path), '-m', '64', '--no-pci', '--no-telemetry',
                '--file-prefix', self.folder.name, '--lcores', lcores,
                '-d', str(self.tools.builddir / 'app/test/rings/test_rings.so')]


@pytest.mark.ours
@pytest.mark.every_release
def test_frames_through_rings_of_a_secondary_process_come_back(
        huge_pages, programs, tools, folder, need_testpmd, is_long):
    """What passes is no more than pointers. The second process is killed, and another one comes."""
    if tools.builddir is None or not (tools.builddir / 'app/test/rings/test_rings.so').exists():
        pytest.skip('test_rings.so not found: give --builddir')
    daemon = HugeDaemon(programs, tools, folder, vdev='test_rings0', port='net_ring_near',
                        devargs='tso=off', pairs=2, namespace=huge_pages).start()
    eal = ['--proc-type=secondary', '--file-prefix', folder.name,
           '--huge-dir', str(huge_pages.path)]
    for ring in RINGS:
        far = FarProcess(programs, tools, folder, eal, argv=huge_pages.argv)
        expect_frames(daemon, ring, 500_000 if is_long else 5_000)
        far.program.kill()
    daemon.expect_alive()


@pytest.mark.ours
def test_unknown_ethdev_is_named(programs, tools, folder):
    if tools.daemon is None:
        pytest.skip('dpdk-vdpa not found: give --builddir')
    daemon = PortDaemon(programs, tools, folder, vdev='net_null0', port='net_null7')
    program = programs.start(daemon.argv(), name='dpdk-vdpa', env={'RUNTIME_DIRECTORY': str(folder)})
    assert program.wait(15) != 0
    assert 'port=net_null7: no ethdev of this name' in program.text()
