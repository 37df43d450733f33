# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""What the tests with Linux guests share: feature masks, and a back end fit for a Linux driver."""

from typing import Callable, Dict, List, Optional

import pytest

from backend import Backend
from feature_filter import FeatureFilter
from guest import Guest, fetched, together
from netns import pings_answered
from uml import Uml, kernel

# Bits of virtio 1.2 by the names of linux/virtio_net.h and virtio_config.h.
CSUM, GUEST_CSUM, MTU, MAC, MRG_RXBUF, STATUS = 0, 1, 3, 5, 15, 16
CTRL_VQ, CTRL_RX, CTRL_VLAN, GUEST_ANNOUNCE, MQ, CTRL_MAC_ADDR = 17, 18, 19, 21, 22, 23
ANY_LAYOUT, INDIRECT_DESC, EVENT_IDX, VERSION_1, ACCESS_PLATFORM = 27, 28, 29, 32, 33
RING_PACKED, IN_ORDER = 34, 35

DEVICE = (CSUM, GUEST_CSUM, MAC, MRG_RXBUF, STATUS, CTRL_VQ, CTRL_RX, CTRL_MAC_ADDR, ANY_LAYOUT,
          INDIRECT_DESC, EVENT_IDX, VERSION_1, ACCESS_PLATFORM, RING_PACKED, IN_ORDER)
CONTROL = (CTRL_VQ, CTRL_RX, CTRL_MAC_ADDR)

# What stock net_vhost offers but leaves to QEMU to serve, and the packed ring: User Mode Linux
# sends 0 as its start, with a wrap counter of 0, and net_vhost then waits for ever.
STOCK_HIDES = (CTRL_VQ, CTRL_RX, CTRL_VLAN, GUEST_ANNOUNCE, MQ, RING_PACKED)


def mask_of(bits) -> int:
    mask = 0
    for bit in bits:
        mask |= 1 << bit
    return mask


def without(*bits: int, pairs: int = 1, mtu: bool = False) -> str:
    """The devarg for a device that offers all it has but these bits."""
    have = set(DEVICE) | ({MQ} if pairs > 1 else set()) | ({MTU} if mtu else set())
    return f'device_features={mask_of(have - set(bits)):#x}'


class Served:
    """A back end under test that a Linux driver can use, and the sockets for its guests."""

    def __init__(self, backend: Backend):
        self.backend = backend
        self.filters: List[FeatureFilter] = []
        if backend.is_ours:
            self.paths = backend.paths
            return
        self.paths = [path + 'f' for path in backend.paths]
        self.filters = [FeatureFilter(front, path, mask_of(STOCK_HIDES))
                        for front, path in zip(self.paths, backend.paths)]

    def hiding(self, number: int, *bits: int) -> str:
        """A socket to the device of this number for a front end that shall not see these bits."""
        path = self.backend.paths[number]
        self.filters.append(FeatureFilter(path + 'h', path, mask_of(bits)))
        return path + 'h'

    def close(self) -> None:
        for one in self.filters:
            one.close()


def expect_all(result: Dict, count: int) -> None:
    """Each frame back once, unchanged, in order."""
    assert result['socket_drops'] == 0, f'the test itself was too slow: {result}'
    wrong = {key: result[key] for key in ('lost', 'changed', 'reordered', 'gaps') if result[key]}
    assert not wrong and result['received'] == count, result


def exchange(guest: Guest, count: int, name: str = 'eth0', **options) -> Dict:
    """Send frames through a loopback and expect each of them back."""
    result = guest.call('exchange', name=name, count=count, timeout_s=60, **options)
    expect_all(result, count)
    return result


def connect_pair(left: Guest, right: Guest, addresses=('10.9.0.1', '10.9.0.2')) -> None:
    """Bring both ends of a joined pair up, with addresses."""
    for guest, address in zip((left, right), addresses):
        guest.nic_up(address=address + '/24', wait=False)
    for guest in (left, right):
        guest.wait_carrier(True)


def ping(guest: Guest, address: str, count: int = 20) -> None:
    """So many answers at least; a TAP of a busy machine may lose some that others make up for."""
    done = guest.run('ping', '-q', '-n', '-c', str(count), '-i', '0.02', '-w', '20', address,
                     timeout_s=60, check=False)
    assert pings_answered(done.out) >= count, done.out


def transfer(sender: Guest, receiver: Guest, address: str, size: int, port: int = 5001,
             timeout_s: float = 60.0) -> float:
    """Send size bytes over TCP, compared by the receiver; megabytes a second."""
    taken, sent = together(receiver.begin('tcp_receive', port=port, size=size),
                           sender.begin('tcp_send', address=address, port=port, size=size),
                           timeout_s=timeout_s)
    assert taken['verdict'] == sent['verdict'] == 'right'
    assert taken['received'] == size
    return size / taken['seconds'] / 1e6


@pytest.fixture
def serve(make_backend: Callable[..., Backend]):
    """Start the back end under test; arguments are those of Backend. Gives Served."""
    running: List[Served] = []

    def start(devargs: Optional[str] = None, **options) -> Served:
        running.append(Served(make_backend(devargs=devargs or '', **options).start()))
        return running[-1]
    yield start
    for served in running:
        served.close()


@pytest.fixture(scope='session')
def linux_kernel():
    return fetched('User Mode Linux', kernel)


@pytest.fixture
def boot(programs, folder, linux_kernel) -> Callable[..., Uml]:
    """Boot a guest with a network device for each socket."""
    return lambda *paths, **options: Uml(programs, folder, paths, kernel=linux_kernel, **options)
