# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Each bit of the feature words of a sw_net loopback device, as a front end sees it.

The tables are the border's contract: a bit that is not in them must not be offered, so that a new one
has to be decided on here too.
"""

import struct

import pytest

from raw_nic import RawNic
from traffic import Stream
from vhost_user import Disconnected, Feature, Protocol, Request, bits, connect
from vnet import run_flows

pytestmark = [pytest.mark.ours, pytest.mark.every_release]

# Device variants: queue pairs, devargs.
DEVICES = {
    'one-pair': (1, ''),
    'four-pairs': (4, ''),
    'mtu': (1, 'mtu=9000'),
    '127-pairs': (127, ''),
    '128-pairs': (128, ''),
    'no-device-log': (1, 'log=off'),
    'never-relayed': (1, 'relay=off'),
    'no-log-at-all': (1, 'relay=off,log=off'),
}
EVERYWHERE = set(DEVICES)
NOWHERE: set = set()
MULTIQUEUE = {'four-pairs', '127-pairs', '128-pairs'}
CONTROL = EVERYWHERE - {'128-pairs'}    # with a control queue there is room for 127 pairs

FEATURES = {
    Feature.CSUM: EVERYWHERE,
    Feature.GUEST_CSUM: EVERYWHERE,
    Feature.MAC: EVERYWHERE,
    Feature.STATUS: EVERYWHERE,
    Feature.MRG_RXBUF: EVERYWHERE,
    Feature.ANY_LAYOUT: EVERYWHERE,
    Feature.INDIRECT_DESC: EVERYWHERE,
    Feature.EVENT_IDX: EVERYWHERE,
    Feature.PROTOCOL_FEATURES: EVERYWHERE,
    Feature.VERSION_1: EVERYWHERE,
    Feature.RING_PACKED: EVERYWHERE,
    Feature.IN_ORDER: EVERYWHERE,
    Feature.MTU: {'mtu'},
    Feature.MQ: MULTIQUEUE,
    Feature.CTRL_VQ: CONTROL,
    Feature.CTRL_RX: CONTROL,
    Feature.CTRL_MAC_ADDR: CONTROL,
    Feature.GUEST_ANNOUNCE: CONTROL,
    # The device has no such function.
    Feature.CTRL_GUEST_OFFLOADS: NOWHERE,
    Feature.GUEST_TSO4: NOWHERE,
    Feature.GUEST_TSO6: NOWHERE,
    Feature.GUEST_ECN: NOWHERE,
    Feature.GUEST_UFO: NOWHERE,
    Feature.HOST_TSO4: NOWHERE,
    Feature.HOST_TSO6: NOWHERE,
    Feature.HOST_ECN: NOWHERE,
    Feature.HOST_UFO: NOWHERE,
    Feature.CTRL_VLAN: NOWHERE,
    Feature.CTRL_RX_EXTRA: NOWHERE,
    Feature.RSS: NOWHERE,
    Feature.ORDER_PLATFORM: NOWHERE,
    # Agreed with the device, kept from the front end.
    Feature.ACCESS_PLATFORM: NOWHERE,
    Feature.RING_RESET: NOWHERE,
    # An eventfd cannot carry them.
    Feature.NOTIFICATION_DATA: NOWHERE,
    Feature.NOTIF_CONFIG_DATA: NOWHERE,
    # The transport's own: offered where the device or the relay can log.
    Feature.LOG_ALL: EVERYWHERE - {'no-log-at-all'},
    # A PCI function's.
    Feature.SR_IOV: NOWHERE,
}

PROTOCOL = {
    Protocol.MQ: True,
    Protocol.LOG_SHMFD: True,
    Protocol.REPLY_ACK: True,
    Protocol.BACKEND_REQ: True,
    Protocol.CONFIG: True,
    Protocol.STATUS: True,
    Protocol.RARP: True,                # the device announces
    Protocol.MTU: False,                # the device's MTU stands in its config space
    Protocol.CROSS_ENDIAN: False,
    Protocol.CRYPTO_SESSION: False,
    Protocol.PAGEFAULT: False,          # no postcopy
    Protocol.BACKEND_SEND_FD: False,    # with devices that have doorbell pages
    Protocol.HOST_NOTIFIER: False,
    Protocol.INFLIGHT_SHMFD: False,
    Protocol.RESET_DEVICE: False,
    Protocol.INBAND_NOTIFICATIONS: False,
    Protocol.CONFIGURE_MEM_SLOTS: False,    # disks alone: librte_vhost would not start this device
}


@pytest.fixture(params=sorted(DEVICES))
def device(request, make_backend):
    """A back end with one device variant: its name, its pairs and the path of its socket."""
    pairs, devargs = DEVICES[request.param]
    return request.param, pairs, make_backend(pairs=pairs, devargs=devargs).start().path


def test_every_feature_bit(device):
    name, _, path = device
    with connect(path) as vu:
        offered = vu.get_features()
    wrong = []
    for bit in range(64):
        wanted = name in FEATURES.get(bit, NOWHERE)
        if bool(offered >> bit & 1) != wanted:
            label = Feature(bit).name if bit in FEATURES else 'unknown'
            wrong.append(f'{label} ({bit}) {"not offered" if wanted else "offered"}')
    assert not wrong, ', '.join(wrong)


def test_every_protocol_feature_bit(device):
    _, _, path = device
    with connect(path) as vu:
        vu.get_features()
        offered = vu.get_protocol_features()
    wrong = []
    for bit in range(64):
        wanted = PROTOCOL.get(bit, False)
        if bool(offered >> bit & 1) != wanted:
            label = Protocol(bit).name if bit in PROTOCOL else 'unknown'
            wrong.append(f'{label} ({bit}) {"not offered" if wanted else "offered"}')
    assert not wrong, ', '.join(wrong)


def test_queue_number(device):
    """2N+1 where a control queue is offered (User Mode Linux counts rings), at most 128."""
    name, pairs, path = device
    with connect(path) as vu:
        vu.get_features()
        vu.set_protocol_features(bits(Protocol.MQ))
        number = vu.get_queue_num()
    assert pairs <= number <= 128
    if name in CONTROL:
        assert number == min(2 * pairs + 1, 128)


@pytest.mark.parametrize('bit', sorted(FEATURES))
def test_bit_that_was_not_offered_is_refused(shared_backend, bit):
    """Nobody can agree on a bit that is masked; a bit that is offered can be agreed on alone."""
    backend = shared_backend(pairs=1)
    with connect(backend.path) as vu:
        offered = vu.get_features()
        vu.set_protocol_features(bits(Protocol.MQ, Protocol.REPLY_ACK))
        vu.set_owner()
        word = bits(bit, Feature.VERSION_1)
        if offered >> bit & 1:
            vu.set_features(word)
            vu.get_features()
            return
        with pytest.raises((Disconnected, RuntimeError)):
            vu.set_features(word)
            vu.get_features()
    backend.expect_alive()


def config(path: str, size: int = 24) -> bytes:
    with connect(path) as vu:
        vu.get_features()
        vu.set_protocol_features(bits(Protocol.MQ, Protocol.REPLY_ACK, Protocol.CONFIG))
        return vu.get_config(0, size)


def test_config_space_says_what_devargs_say(make_backend):
    backend = make_backend(pairs=3, devargs='mac=02:11:22:33:44:55,mtu=4000').start()
    mac, status, pairs, mtu = struct.unpack_from('<6sHHH', config(backend.path))
    assert mac == bytes.fromhex('021122334455')
    assert status & 1, 'link down'
    assert pairs == 3
    assert mtu == 4000


def test_mac_is_the_same_each_time_and_local(make_backend):
    backend = make_backend().start()
    first = config(backend.path)[:6]
    backend.stop()
    backend.start()
    assert config(backend.path)[:6] == first
    assert first[0] & 3 == 2, 'a unicast address of local administration'


def test_config_read_beyond_its_end(make_backend):
    """Zeros or an error, never anything else: a guest takes what it gets."""
    backend = make_backend().start()
    whole = config(backend.path, 200)
    assert len(whole) in (0, 200)
    assert not any(whole[32:])
    with connect(backend.path) as vu:
        vu.get_features()
        vu.set_protocol_features(bits(Protocol.CONFIG))
        vu.ask(Request.GET_CONFIG, struct.pack('=III', 0, 24, 0) + b'\xff' * 24)
        answer = vu.get_config(0, 6)
        assert answer == whole[:6]
    backend.expect_alive()


def test_device_features_narrow_the_offer(make_backend):
    word = bits(Feature.VERSION_1, Feature.MAC, Feature.MRG_RXBUF)
    backend = make_backend(devargs=f'device_features={word:#x}').start()
    with connect(backend.path) as vu:
        assert vu.get_features() == word | bits(Feature.PROTOCOL_FEATURES, Feature.LOG_ALL)


def test_status_follows_the_driver(make_backend):
    backend = make_backend().start()
    nic = RawNic().bring_up(backend.path)
    try:
        assert nic.vu.get_status() & 15 == 15
        nic.set_status(0)
        assert nic.vu.get_status() == 0
    finally:
        nic.close()


def test_128_pairs_carry_traffic(make_backend):
    """The most that librte_vhost has: 256 rings."""
    backend = make_backend(pairs=128).start()
    nic = RawNic(pairs=128, ring_size=16, memory_bytes=64 << 20, rx_buffer=1664)
    try:
        nic.bring_up(backend.path)
        streams = [Stream(n) for n in range(128)]
        run_flows(nic.flows(streams), 20, window=8)
        for stream in streams:
            assert stream.books().clean(), f'pair {stream.number}: {stream.books()}'
    finally:
        nic.close()
