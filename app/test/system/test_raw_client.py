# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A raw vhost-user front end that behaves: formats, stop, interrupts, reconnect, coming and going."""

import select
import time

import pytest

from proc import wait_until
from raw_nic import BASIC, EventFd, RawNic, works
from traffic import Stream
from vhost_user import Feature, FrontEnd, Listener, Request, bits, connect
from vnet import run_flows

pytestmark = pytest.mark.every_release

PACKED = bits(Feature.RING_PACKED)
INDIRECT = bits(Feature.INDIRECT_DESC)
EVENTS = bits(Feature.EVENT_IDX)
IN_ORDER = bits(Feature.IN_ORDER)

# Name: features, shape of transmitted buffers, further options of the NetPair.
FORMATS = {}
for _name, _bit in (('split', 0), ('packed', PACKED)):
    FORMATS.update({
        _name: (BASIC | _bit, 'direct', {}),
        f'{_name}-chained': (BASIC | _bit, 'chained', {}),
        f'{_name}-indirect': (BASIC | _bit | INDIRECT, 'indirect', {}),
        f'{_name}-events': (BASIC | _bit | EVENTS, 'direct', {}),
        f'{_name}-inorder': (BASIC | _bit | IN_ORDER, 'direct', {}),
        f'{_name}-nomrg': (BASIC & ~bits(Feature.MRG_RXBUF) | _bit, 'direct', {}),
        f'{_name}-jumbo': (BASIC | _bit, 'direct', {'max_frame': 9000}),
        f'{_name}-small-buffers': (BASIC | _bit, 'chained', {'max_frame': 9000,
                                                             'rx_buffer': 256}),
        f'{_name}-all': (BASIC | _bit | INDIRECT | EVENTS | IN_ORDER, 'indirect', {}),
    })


def run(nic, streams, frames, **options):
    run_flows(nic.flows(streams), frames, **options)
    for stream in streams:
        assert stream.books().clean(), f'stream {stream.number}: {stream.books()}'


@pytest.mark.parametrize('shape', sorted(FORMATS))
@pytest.mark.parametrize('pairs', [1, 4])
def test_traffic(shared_backend, nics, is_long, shape, pairs):
    features, buffers, options = FORMATS[shape]
    backend = shared_backend(pairs=pairs)
    nic = nics(pairs=pairs, features=features, shape=buffers, **options).bring_up(backend.path)
    assert nic.features == features, f'not offered: {features & ~nic.features:#x}'
    largest = options.get('max_frame', 1514)
    run(nic, [Stream(n, (60, largest)) for n in range(pairs)], 100000 if is_long else 1500)


@pytest.mark.parametrize('size', [2, 8, 64, 1024, 32768])
def test_ring_sizes(shared_backend, nics, size):
    backend = shared_backend(pairs=1)
    features = BASIC if size > 2 else BASIC & ~bits(Feature.MRG_RXBUF)
    nic = nics(ring_size=size, features=features, memory_bytes=160 << 20).bring_up(backend.path)
    run(nic, [Stream()], 600)


def test_server_mode(make_backend, nics, folder):
    """The back end connects to us, and again whenever the connection is lost."""
    backend = make_backend(pairs=2, client=True)
    listener = Listener(backend.path)
    try:
        backend.start()
        for number in range(3):
            nic = nics(pairs=2).attach(listener.accept())
            if not backend.is_ours:
                time.sleep(1)       # testpmd forwards nothing for who comes while it starts
            nic.negotiate()
            nic.agree()
            nic.start()
            run(nic, [Stream(n) for n in range(2)], 300)
            nic.disconnect()
    finally:
        listener.close()


@pytest.mark.ours       # net_vhost drops what finds no receive buffer
@pytest.mark.parametrize('packed', [False, True], ids=['split', 'packed'])
def test_frames_wait_for_receive_buffers(make_backend, nics, packed):
    """A guest that gives no receive buffers holds its frames back, and loses none."""
    backend = make_backend().start()
    nic = nics(features=BASIC | (PACKED if packed else 0)).bring_up(backend.path)
    stream, pair = Stream(), nic.net[0]
    for _ in range(5):
        def stalled():
            pair.reclaim()
            pair.send([stream.make() for _ in range(pair.room())])
            return stream.outstanding() == pair.rx.size + pair.tx.size
        wait_until(stalled, 10, 'all receive buffers and the transmit ring are full')
        for _ in range(20):
            time.sleep(0.002)
            assert not pair.reclaim(), 'a frame is gone that found no receive buffer'
        run(nic, [stream], 100)


@pytest.mark.ours       # net_vhost loses the burst that it holds
@pytest.mark.parametrize('packed', [False, True], ids=['split', 'packed'])
def test_stop_and_go_on(make_backend, nics, packed):
    """GET_VRING_BASE stops the device at once, and a start from there loses and repeats nothing."""
    backend = make_backend(pairs=2).start()
    nic = nics(pairs=2, features=BASIC | (PACKED if packed else 0)).bring_up(backend.path)
    streams = [Stream(0), Stream(1)]
    for _ in range(20):
        for flow in nic.flows(streams):
            flow.pump(flow.stream.sent() + 100)
        bases = nic.stop()
        before = [ring.device_index() for ring in nic.rings] if not packed else []
        for flow in nic.flows(streams):
            flow.pair.send([flow.stream.make() for _ in range(5)])
        time.sleep(0.01)
        if not packed:
            assert [ring.device_index() for ring in nic.rings] == before, 'used after the stop'
        for index, base in enumerate(bases):
            nic.start_ring(index, base)
            nic.vu.set_vring_enable(index, True)
            nic.kicks[index].signal()
        run(nic, streams, 100)


@pytest.mark.parametrize('events', [False, True], ids=['flags', 'events'])
@pytest.mark.parametrize('packed', [False, True], ids=['split', 'packed'])
def test_interrupts(shared_backend, nics, packed, events):
    """No interrupt where none is wanted; one where one is; none too early with event index."""
    backend = shared_backend(pairs=1)
    features = BASIC | (PACKED if packed else 0) | (EVENTS if events else 0)
    nic = nics(features=features).bring_up(backend.path)
    stream, rx, call = Stream(), nic.rings[0], nic.calls[0]
    run(nic, [stream], 50)
    call.take(0.05)
    run(nic, [stream], 200)
    assert call.take(0.05) == 0, 'interrupts although none were wanted'
    rx.want_interrupts(True)
    run(nic, [stream], 1)
    assert call.take(1.0) >= 1, 'no interrupt although one was wanted'
    if events:
        rx.want_interrupts(True, after=30)
        rx._interrupts = False      # poll() would ask for the next one
        call.take(0.05)
        run(nic, [stream], 29, window=29)
        assert call.take(0.05) == 0, 'interrupt before the wanted buffer'
        run(nic, [stream], 1)
        assert call.take(1.0) == 1


@pytest.mark.parametrize('features, devargs', [
    pytest.param(0, '', id='direct'),
    pytest.param(EVENTS, 'relay=always', id='relayed-split-events', marks=pytest.mark.ours),
    pytest.param(PACKED, 'relay=always', id='relayed-packed', marks=pytest.mark.ours)])
def test_no_interrupt_lost_when_descriptors_change(make_backend, nics, features, devargs):
    """SET_VRING_CALL in traffic: a driver that sleeps until its interrupt never sleeps for ever."""
    backend = make_backend(devargs=devargs).start()
    nic = nics(features=BASIC | features).bring_up(backend.path)
    stream = Stream()
    pair, rx = nic.net[0], nic.rings[0]
    for number in range(200):
        rx.want_interrupts(True)
        pair.reclaim()
        pair.send([stream.make()])
        fresh = EventFd()
        nic.vu.set_vring_call(0, fresh.fd)
        old, nic.calls[0] = nic.calls[0], fresh
        ready = select.select([old.fd, fresh.fd], [], [], 10.0)[0]
        assert ready, f'no interrupt in round {number}'
        wait_until(lambda: [stream.take(f) for f in pair.receive()], 1.0, 'the frame')
        fresh.take()
        old.close()
    assert stream.books().clean(), str(stream.books())


@pytest.mark.ours
def test_second_connection_is_refused(make_backend, nics):
    backend = make_backend(pairs=2).start()
    nic = nics(pairs=2).bring_up(backend.path)
    streams = [Stream(0), Stream(1)]
    run(nic, streams, 100)
    for _ in range(5):
        with connect(backend.path) as second:
            assert second.closed_within(10.0), 'a second front end may stay'
        run(nic, streams, 100)
    nic.disconnect()
    wait_until(lambda: works(backend.path), 2.0, 'the socket is free again')


@pytest.mark.ours
@pytest.mark.parametrize('delay', ['', 'delay_us=5000'], ids=['quick', 'slow'])
@pytest.mark.parametrize('way', ['connection', 'killed', 'ended'])
def test_rings_survive_the_back_end(make_backend, nics, is_long, way, delay):
    """The connection or the back end dies in traffic, rings stay. None lost, none changed; only what
    was in flight may come twice."""
    backend = make_backend(pairs=2, devargs=delay).start()
    nic = nics(pairs=2).bring_up(backend.path)
    streams = [Stream(0), Stream(1)]
    may_repeat = [set(), set()]
    for _ in range(30 if is_long else 5):
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            for flow in nic.flows(streams):
                flow.pump(flow.stream.sent() + 64)
        for flow in nic.flows(streams):
            flow.pump(flow.stream.sent() + 64)
        if way == 'killed':
            backend.kill()
        elif way == 'ended':
            assert backend.stop() == 0
        nic.disconnect()
        if way == 'connection':
            backend.settled_resources()
        for pair, numbers in zip(nic.net, may_repeat):
            pair.reclaim()
            numbers |= {Stream.number_of(frame) for frame in pair.frames_in_flight()}
        if way != 'connection':
            backend.start()
        nic.bring_up(backend.path)
        run_flows(nic.flows(streams), 200)
        for stream, numbers in zip(streams, may_repeat):
            books = stream.books()
            assert not books.lost and not books.changed and not books.foreign, str(books)
            assert not books.reordered, str(books)
            assert set(books.repeated) <= numbers, str(books)
    if delay and way != 'ended':
        assert sum(map(len, may_repeat)), 'nothing was in flight: the test shows nothing'
    print(f'in flight {sum(map(len, may_repeat))}, '
          f'repeated {sum(len(s.books().repeated) for s in streams)}')


def test_no_growth_over_200_connections(make_backend, nics, is_long):
    """Front ends that work, that only connect, and that leave after any of their messages."""
    backend = make_backend(pairs=2).start()
    before = None
    rounds = 2000 if is_long else 200
    warm_up = 40
    for number in range(rounds + warm_up):
        if number == warm_up:
            before = backend.settled_resources()
        nic = RawNic(pairs=2)
        try:
            nic.connect(backend.path)
            if number % 4:
                nic.attach(ShortLived(nic.vu, number % 31))
            nic.negotiate()
            nic.agree()
            nic.start()
            stream = Stream()
            run_flows(nic.flows([stream]), 20)
            assert number % 4 or stream.books().clean(), f'round {number}: {stream.books()}'
        except Enough:
            pass
        finally:
            nic.close()
    backend.expect_no_growth(before)
    wait_until(lambda: works(backend.path), 2.0, 'a front end works after all that')


class Enough(Exception):
    """A ShortLived front end has sent all that it was to send."""


class ShortLived(FrontEnd):
    """Leaves after a number of messages."""

    def __init__(self, other: FrontEnd, messages: int):
        super().__init__(other.socket)
        self.left = messages

    def send_bytes(self, data, fds=()) -> None:
        if not self.left:
            raise Enough
        self.left -= 1
        super().send_bytes(data, fds)


@pytest.mark.ours
def test_time_that_each_message_takes(make_backend, nics):
    """From a message to the answer of the next one: how long it holds the event thread.

    Nothing but a stop may wait for a device."""
    backend = make_backend(pairs=2).start()
    taken = {}
    for _ in range(20):
        nic = nics(pairs=2).connect(backend.path)
        nic.attach(TimedFrontEnd(nic.vu, taken))
        nic.negotiate()
        nic.agree()
        nic.start()
        run(nic, [Stream(0), Stream(1)], 20)
        nic.vu.set_mem_table(nic.mem)
        nic.stop()
        nic.set_status(0)
        nic.disconnect()
        wait_until(lambda: works(backend.path), 2.0, 'the socket is free')
    print()
    for request in sorted(taken):
        times = sorted(taken[request])
        print(f'{Request(request).name:24} median {times[len(times) // 2] * 1e6:7.0f} us, '
              f'longest {times[-1] * 1e6:7.0f} us of {len(times)}')
    for request, times in taken.items():
        limit = 0.2 if request == Request.GET_VRING_BASE else 0.05
        assert sorted(times)[len(times) // 2] < limit, Request(request).name


class TimedFrontEnd(FrontEnd):
    """Measures each message: until its own answer, or that of a GET_FEATURES sent behind it."""

    def __init__(self, other: FrontEnd, taken: dict):
        super().__init__(other.socket)
        self.acknowledge = False
        self.taken = taken
        self._busy = False

    def _measure(self, request: int, action, follow: bool):
        if self._busy:
            return action()
        self._busy = True
        try:
            start = time.monotonic()
            result = action()
            if follow:
                self.ask(Request.GET_FEATURES)
            self.taken.setdefault(request, []).append(time.monotonic() - start)
            return result
        finally:
            self._busy = False

    def tell(self, request, payload=b'', fds=()) -> None:
        self._measure(request, lambda: super(TimedFrontEnd, self).tell(request, payload, fds), True)

    def ask(self, request, payload=b'', fds=()):
        return self._measure(request,
                             lambda: super(TimedFrontEnd, self).ask(request, payload, fds), False)
