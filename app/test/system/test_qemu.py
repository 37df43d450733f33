# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Stock QEMU without a guest system against the back end, in client and in server mode."""

import signal
import time

import pytest

from proc import wait_until
from qemu import Machine
from traffic import Stream
from vhost_user import STATUS_DRIVER_OK, Feature, bits
from virtio_pci import BASIC, MULTIQUEUE, NetDriver
from vnet import run_flows

pytestmark = pytest.mark.usefixtures('need_qemu')

NO_MERGE = BASIC & ~bits(Feature.MRG_RXBUF)

# Name: properties of the card, features that the driver accepts, shape of its buffers.
FORMATS = {
    'split': ([], BASIC, 'direct'),
    'split-chained': ([], BASIC, 'chained'),
    'split-indirect': ([], BASIC | bits(Feature.INDIRECT_DESC), 'indirect'),
    'split-events': ([], BASIC | bits(Feature.EVENT_IDX), 'direct'),
    'split-nomrg': ([], NO_MERGE, 'direct'),
    'packed': (['packed=on'], BASIC | bits(Feature.RING_PACKED), 'direct'),
    'packed-chained': (['packed=on'], BASIC | bits(Feature.RING_PACKED), 'chained'),
    'packed-indirect': (['packed=on'], BASIC | bits(Feature.RING_PACKED, Feature.INDIRECT_DESC),
                        'indirect'),
    'packed-events': (['packed=on'], BASIC | bits(Feature.RING_PACKED, Feature.EVENT_IDX),
                      'direct'),
}


@pytest.fixture
def make_machine(programs, tools, folder):
    """A QEMU in front of a back end: make_machine(backend, Machine options)."""
    def make(backend, **options):
        return Machine(programs, tools, folder, backend.path, queues=backend.pairs,
                       server=backend.client, **options)
    return make


# Stock net_vhost never serves a front end that connects while its testpmd is still starting, which is
# what happens in client mode.
BOTH_MODES = pytest.mark.parametrize('client', [
    pytest.param(False, id='server'), pytest.param(True, id='client', marks=pytest.mark.ours)])


def streams(count, **options):
    return [Stream(number, **options) for number in range(count)]


def check_clean(list_of_streams):
    for stream in list_of_streams:
        assert stream.books().clean(), f'stream {stream.number}: {stream.books()}'


def run(driver, list_of_streams, frames, **options):
    """frames through each pair, all of which must come back as they were."""
    run_flows(driver.flows(list_of_streams), frames, **options)
    check_clean(list_of_streams)


@pytest.mark.parametrize('shape, machine', [(shape, 'pc') for shape in sorted(FORMATS)] +
                         [('split', 'q35'), ('packed', 'q35')])
def test_negotiation_and_traffic(make_backend, make_machine, is_long, shape, machine):
    properties, wanted, buffers = FORMATS[shape]
    backend = make_backend().start()
    vm = make_machine(backend, machine=machine, card=properties)
    driver = NetDriver(vm, wanted=wanted, shape=buffers).start()
    asked = wanted & ~bits(Feature.STATUS, Feature.MAC)
    assert driver.features & asked == asked, f'offered {driver.offered:#x}'
    assert driver.status & STATUS_DRIVER_OK
    run(driver, streams(1), 100000 if is_long else 2000)
    assert vm.quit() == 0
    backend.expect_alive()


@pytest.mark.parametrize('kind', ['memory-backend-memfd', 'memory-backend-file',
                                  'memory-backend-shm'])
def test_memory_backends(make_backend, make_machine, tools, kind):
    """All that libvirt and people use for shared memory; only the first is sealed."""
    if kind == 'memory-backend-shm' and tools.qemu_version() < (9, 1):
        pytest.skip('this QEMU has no memory-backend-shm')
    backend = make_backend().start()
    path = ',mem-path=/dev/shm' if kind == 'memory-backend-file' else ''
    vm = make_machine(backend, memory=f'{kind},share=on{path}')
    run(NetDriver(vm).start(), streams(1), 500)
    assert vm.quit() == 0


def test_event_index_saves_kicks(make_backend, make_machine):
    """With event index a busy device is not kicked for every burst."""
    backend = make_backend().start()
    vm = make_machine(backend)
    driver = NetDriver(vm, wanted=BASIC | bits(Feature.EVENT_IDX)).start()
    run(driver, streams(1), 3000, window=16)
    assert 0 < driver.net[0].kicks < 3000


@pytest.mark.parametrize('packed', [False, True], ids=['split', 'packed'])
def test_fewer_queues_than_offered_and_all(make_backend, make_machine, packed):
    backend = make_backend(pairs=4).start()
    vm = make_machine(backend, card=['packed=on'] if packed else [])
    wanted = MULTIQUEUE | (bits(Feature.RING_PACKED) if packed else 0)
    driver = NetDriver(vm, wanted=wanted)
    flows = streams(4)
    for pairs in (1, 4, 2, 3, 4):
        driver.start(pairs)
        assert driver.max_pairs == 4
        run(driver, flows[:pairs], 500)
    # All queues stay set up, the number in use changes by the control queue alone.
    for pairs in (2, 1, 4):
        driver.use_pairs(pairs)
        run_flows(driver.flows(flows)[:pairs], 500)
        check_clean(flows)
    backend.expect_alive()


def test_driver_without_multiqueue(make_backend, make_machine):
    backend = make_backend(pairs=4).start()
    vm = make_machine(backend)
    driver = NetDriver(vm, wanted=BASIC).start()
    run(driver, streams(1), 1000)


@pytest.mark.parametrize('packed', [False, True], ids=['split', 'packed'])
def test_driver_reset_in_traffic(make_backend, make_machine, is_long, packed):
    backend = make_backend(pairs=2).start()
    vm = make_machine(backend, card=['packed=on'] if packed else [])
    wanted = MULTIQUEUE | (bits(Feature.RING_PACKED) if packed else 0)
    driver = NetDriver(vm, wanted=wanted, pairs=2).start()
    flows = streams(2)
    for _ in range(100 if is_long else 10):
        run(driver, flows, 300)
        for flow in driver.flows(flows):    # leave frames in both rings
            flow.pump(flow.stream.sent() + 100)
        driver.start()
        for stream in flows:
            stream.abandon()
    run(driver, flows, 1000)
    backend.expect_alive()


def test_memory_plugged_and_unplugged_in_traffic(make_backend, make_machine):
    backend = make_backend(pairs=2).start()
    vm = make_machine(backend)
    driver = NetDriver(vm, wanted=MULTIQUEUE, pairs=2).start()
    flows = streams(2)
    pumps = driver.flows(flows)

    def traffic() -> None:
        for pump in pumps:
            pump.pump(pump.stream.sent() + 64)

    for _ in range(2):
        for number in range(4):
            traffic()
            vm.plug_dimm(f'd{number}')
            backend.expect_alive()
            run(driver, flows, 200)
        for number in range(4):
            traffic()
            vm.unplug_dimm(f'd{number}')
            backend.expect_alive()
            run(driver, flows, 200)
    assert vm.quit() == 0
    backend.expect_alive()


def test_rings_in_plugged_memory(make_backend, make_machine):
    """The device follows rings and buffers into memory that came later."""
    backend = make_backend().start()
    vm = make_machine(backend)
    driver = NetDriver(vm).start()
    flows = streams(1)
    run(driver, flows, 200)
    region = vm.plug_dimm('d0')
    driver.reset()
    vm.mem.use_for_alloc(region.gpa, region.gpa + region.size)
    driver.keep_heap()
    driver.start()
    run(driver, flows, 1000)


def test_link_down_and_up(make_backend, make_machine):
    backend = make_backend().start()
    vm = make_machine(backend)
    driver = NetDriver(vm).start()
    flows = streams(1)
    run(driver, flows, 300)
    for _ in range(3):
        vm.set_link(False)
        wait_until(lambda: not driver.link_up, 2, 'link down')
        vm.set_link(True)
        wait_until(lambda: driver.link_up, 2, 'link up')
        run(driver, flows, 300)


@pytest.mark.ours       # net_vhost loses the burst that it holds
def test_stopped_and_continued(make_backend, make_machine):
    """QMP stop and cont: the device stops and goes on with the rings as they are."""
    backend = make_backend(pairs=2).start()
    vm = make_machine(backend)
    driver = NetDriver(vm, wanted=MULTIQUEUE, pairs=2).start()
    flows = streams(2)
    for _ in range(10):
        for pump in driver.flows(flows):
            pump.pump(pump.stream.sent() + 64)
        vm.qmp.execute('stop')
        vm.qmp.execute('cont')
        run(driver, flows, 200)


@BOTH_MODES
def test_qemu_killed_and_back(make_backend, make_machine, client):
    backend = make_backend(pairs=2, client=client)
    if not client:
        backend.start()
    for number in range(3):
        vm = make_machine(backend, wait=not client, name=f'vm{number}')
        if client and number == 0:
            backend.start()
        if client:
            vm.connect()
        driver = NetDriver(vm, wanted=MULTIQUEUE, pairs=2).start()
        flows = streams(2, seed=number)
        run(driver, flows, 500)
        for pump in driver.flows(flows):
            pump.pump(pump.stream.sent() + 100)
        vm.kill()
        backend.expect_alive()


@BOTH_MODES
@pytest.mark.parametrize('way', [
    pytest.param('killed', marks=pytest.mark.ours),     # net_vhost loses the burst that it holds
    pytest.param('killed-slow', marks=pytest.mark.ours),
    'ended'])
def test_back_end_gone_and_back(make_backend, make_machine, is_long, client, way):
    """The back end dies in traffic and a new one is started; QEMU connects again.

    QEMU itself throws away what lies in a transmit ring without a back end. So it is stopped for the
    moment of the death: what the ring shows as in flight then may be lost or come twice, nothing else.
    """
    backend = make_backend(pairs=2, client=client, devargs='delay_us=5000' if 'slow' in way else '')
    if not client:
        backend.start()
    vm = make_machine(backend, wait=not client)
    if client:
        backend.start()
        vm.connect()
    driver = NetDriver(vm, wanted=MULTIQUEUE, pairs=2).start()
    flows = streams(2)
    may_repeat = [set(), set()]
    thrown_away = 0
    for _ in range(10 if is_long else 3):
        run_flows(driver.flows(flows), 500)
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            for pump in driver.flows(flows):
                pump.pump(pump.stream.sent() + 64)
        for pump in driver.flows(flows):
            pump.pump(pump.stream.sent() + 64)
        vm.program.signal(signal.SIGSTOP)
        if way.startswith('killed'):
            backend.kill()
        else:
            assert backend.stop() == 0
        for pair, stream, numbers in zip(driver.net, flows, may_repeat):
            pair.reclaim()
            in_flight = {Stream.number_of(frame) for frame in pair.frames_in_flight()}
            for frame in pair.receive_only():
                stream.take(frame)
            numbers |= in_flight
            thrown_away += stream.abandon(in_flight)
        vm.program.signal(signal.SIGCONT)
        wait_until(lambda: not driver.link_up, 5, 'QEMU notices that the back end is gone')
        backend.start()
        wait_until(lambda: driver.link_up, 10, 'QEMU is connected again')
        run_flows(driver.flows(flows), 500)
        for stream, numbers in zip(flows, may_repeat):
            books = stream.books()
            assert not books.lost and not books.changed and not books.foreign, str(books)
            assert not books.reordered, str(books)
            assert set(books.repeated) <= numbers, str(books)
    if way == 'killed-slow':
        assert sum(map(len, may_repeat)), 'nothing was in flight: the test shows nothing'
    print(f'in flight at a death: {sum(map(len, may_repeat))}, of these not come back before: '
          f'{thrown_away}, repeated: {sum(len(s.books().repeated) for s in flows)}')


def test_no_growth_over_20_machines(make_backend, make_machine):
    backend = make_backend(pairs=2).start()
    before = None
    for number in range(22):
        vm = make_machine(backend, name=f'vm{number}')
        driver = NetDriver(vm, wanted=MULTIQUEUE, pairs=2).start()
        run(driver, streams(2), 50)
        assert vm.quit() == 0
        if number == 1:
            before = backend.settled_resources()
    backend.expect_no_growth(before)
