# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Small drivers for QEMU's virtio PCI cards, and the one for virtio-net (virtio 1.2, 4.1 and 5.1)."""

from typing import Dict, List, Optional, Sequence

from proc import wait_until
from qemu import Machine, PciDevice
from traffic import Stream
from vhost_user import (STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FEATURES_OK,
                        Feature, bits)
from vnet import Flow, NetPair
from vring import Segment, make_ring

VIRTIO_VENDOR = 0x1af4
NET_DEVICE = 0x1041
CAP_VENDOR = 9
CAP_COMMON, CAP_NOTIFY, CAP_ISR, CAP_DEVICE = 1, 2, 3, 4
MMIO_BASE = 0xfe000000
CTRL_MQ, CTRL_MQ_PAIRS_SET = 4, 0
CTRL_OK = 0
LINK_UP = 1

# Offsets in the common configuration (4.1.4.3)
DEVICE_FEATURE_SELECT, DEVICE_FEATURE, DRIVER_FEATURE_SELECT, DRIVER_FEATURE = 0, 4, 8, 12
NUM_QUEUES, DEVICE_STATUS, QUEUE_SELECT, QUEUE_SIZE = 18, 20, 22, 24
QUEUE_ENABLE, QUEUE_NOTIFY_OFF, QUEUE_DESC, QUEUE_DRIVER, QUEUE_DEVICE = 28, 30, 32, 40, 48

BASIC = bits(Feature.VERSION_1, Feature.MRG_RXBUF, Feature.STATUS, Feature.MAC)
MULTIQUEUE = BASIC | bits(Feature.MQ, Feature.CTRL_VQ)


class PciDriver:
    """What the drivers of all device types share. wanted is what the driver accepts at most."""
    device_id = 0

    def __init__(self, machine: Machine, *, wanted: int, ring_size: int = 256, slot: int = 4):
        self.machine, self.mem, self.qtest = machine, machine.mem, machine.qtest
        self.wanted, self.ring_size = wanted, ring_size
        self.features = 0
        self.offered = 0
        self.rings: List = []
        self._cvq = None
        self._notify: Dict[int, int] = {}
        self.keep_heap()
        self._find(PciDevice(self.qtest, slot))

    def move(self, machine: Machine) -> None:
        """Go on in another machine, to which this one was migrated."""
        free = self.mem.free_range()
        self.machine, self.mem, self.qtest = machine, machine.mem, machine.qtest
        self.mem.use_for_alloc(*free)
        for ring in self.rings + ([self._cvq] if self._cvq is not None else []):
            ring.attach(self.mem)

    def keep_heap(self) -> None:
        """Rings and buffers come from what the memory's allocator has now, after each reset."""
        self._heap = self.mem.free_range()

    # PCI

    def _find(self, pci: PciDevice) -> None:
        ident = pci.read(4, 0)
        assert ident == VIRTIO_VENDOR | self.device_id << 16, f'PCI id {ident:#x} is another device'
        bars = pci.place_bars(MMIO_BASE)
        self._at: Dict[int, int] = {}
        self._multiplier = 0
        for cap in pci.capabilities():
            if pci.read(1, cap) != CAP_VENDOR:
                continue
            kind, bar = pci.read(1, cap + 3), pci.read(1, cap + 4)
            if kind not in (CAP_COMMON, CAP_NOTIFY, CAP_ISR, CAP_DEVICE) or bar not in bars:
                continue
            self._at[kind] = bars[bar] + pci.read(4, cap + 8)
            if kind == CAP_NOTIFY:
                self._multiplier = pci.read(4, cap + 16)

    def _get(self, width: int, offset: int) -> int:
        return self.qtest.read(width, self._at[CAP_COMMON] + offset)

    def _set(self, width: int, offset: int, value: int) -> None:
        if width == 8:
            self._set(4, offset, value & 0xffffffff)
            self._set(4, offset + 4, value >> 32)
        else:
            self.qtest.write(width, self._at[CAP_COMMON] + offset, value)

    # Device

    @property
    def status(self) -> int:
        return self._get(1, DEVICE_STATUS)

    def reset(self) -> None:
        """Reset the device; rings and buffers are forgotten."""
        self._set(1, DEVICE_STATUS, 0)
        wait_until(lambda: self.status == 0, 5.0, 'device status 0 after a reset')
        self.rings.clear()
        self._cvq = None
        self.mem.use_for_alloc(*self._heap)

    def negotiate(self) -> None:
        """Reset, then agree on features."""
        self.reset()
        self._set(1, DEVICE_STATUS, STATUS_ACKNOWLEDGE)
        self._set(1, DEVICE_STATUS, STATUS_ACKNOWLEDGE | STATUS_DRIVER)
        words = []
        for half in (0, 1):
            self._set(4, DEVICE_FEATURE_SELECT, half)
            words.append(self._get(4, DEVICE_FEATURE))
        self.offered = words[0] | words[1] << 32
        self.features = self.offered & self.wanted
        for half in (0, 1):
            self._set(4, DRIVER_FEATURE_SELECT, half)
            self._set(4, DRIVER_FEATURE, self.features >> 32 * half & 0xffffffff)
        good = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK
        self._set(1, DEVICE_STATUS, good)
        assert self.status == good, f'status {self.status:#x} instead of FEATURES_OK'

    def has(self, feature: int) -> bool:
        return bool(self.features >> feature & 1)

    def config(self, width: int, offset: int) -> int:
        """Device configuration space."""
        return self.qtest.read(width, self._at[CAP_DEVICE] + offset)

    def _set_up_queue(self, index: int, size: int):
        self._set(2, QUEUE_SELECT, index)
        limit = self._get(2, QUEUE_SIZE)
        assert limit, f'queue {index} does not exist'
        size = min(size, limit)
        self._set(2, QUEUE_SIZE, size)
        ring = make_ring(self.mem, size, self.has(Feature.RING_PACKED),
                         event_idx=self.has(Feature.EVENT_IDX),
                         in_order=self.has(Feature.IN_ORDER))
        self._set(8, QUEUE_DESC, ring.desc_addr)
        self._set(8, QUEUE_DRIVER, ring.driver_addr)
        self._set(8, QUEUE_DEVICE, ring.device_addr)
        offset = self._get(2, QUEUE_NOTIFY_OFF)
        self._notify[index] = self._at[CAP_NOTIFY] + offset * self._multiplier
        self._set(2, QUEUE_ENABLE, 1)
        return ring

    def kick(self, index: int) -> None:
        self.qtest.write(2, self._notify[index], index)


class NetDriver(PciDriver):
    """Drives the network card of one Machine."""
    device_id = NET_DEVICE

    def __init__(self, machine: Machine, *, wanted: int = BASIC, pairs: int = 1,
                 ring_size: int = 256, slot: int = 4, **net_options):
        self.pairs, self.net_options = pairs, net_options
        self.net: List[NetPair] = []
        super().__init__(machine, wanted=wanted, ring_size=ring_size, slot=slot)

    def move(self, machine: Machine) -> None:
        super().move(machine)
        for pair in self.net:
            pair.mem = self.mem

    def reset(self) -> None:
        super().reset()
        self.net.clear()

    @property
    def link_up(self) -> bool:
        return bool(self.config(2, 6) & LINK_UP)

    @property
    def max_pairs(self) -> int:
        return self.config(2, 8) if self.has(Feature.MQ) else 1

    def start(self, pairs: Optional[int] = None) -> 'NetDriver':
        """Negotiate, set up the queues, DRIVER_OK, use all pairs that were set up."""
        self.negotiate()
        count = self.pairs if pairs is None else pairs
        max_pairs = self.max_pairs
        assert count <= max_pairs, f'{count} pairs wanted, the device has {max_pairs}'
        self.rings = [self._set_up_queue(n, self.ring_size) for n in range(2 * count)]
        if self.has(Feature.CTRL_VQ):
            self._cvq_index = 2 * max_pairs
            self._cvq = self._set_up_queue(self._cvq_index, 64)
            self._cvq_page = self.mem.alloc(4096, 4096)
        self.net = [NetPair(self.mem, self.rings[2 * n], self.rings[2 * n + 1],
                            lambda n=n: self.kick(2 * n), lambda n=n: self.kick(2 * n + 1),
                            mergeable=self.has(Feature.MRG_RXBUF), **self.net_options)
                    for n in range(count)]
        self._set(1, DEVICE_STATUS, self.status | STATUS_DRIVER_OK)
        if self._cvq is not None and self.has(Feature.MQ):
            self.use_pairs(count)
        for pair in self.net:
            pair.fill_rx()
        return self

    def control(self, kind: int, command: int, data: bytes) -> int:
        """One command on the control queue: the device's answer."""
        assert self._cvq is not None, 'no control queue'
        page = self._cvq_page
        self.mem.write(page, bytes([kind, command]) + data)
        self.mem.write(page + 2048, b'\xff')
        self._cvq.add([Segment(page, 2, False), Segment(page + 2, len(data), False),
                       Segment(page + 2048, 1, True)], 'control')
        self._cvq.publish()
        self.kick(self._cvq_index)
        wait_until(self._cvq.poll, 5.0, 'answer on the control queue')
        return self.mem.read(page + 2048, 1)[0]

    def use_pairs(self, pairs: int) -> None:
        """VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET."""
        answer = self.control(CTRL_MQ, CTRL_MQ_PAIRS_SET, pairs.to_bytes(2, 'little'))
        assert answer == CTRL_OK, f'device refuses {pairs} pairs'

    def flows(self, streams: Sequence[Stream]) -> List[Flow]:
        return [Flow(pair, stream) for pair, stream in zip(self.net, streams)]
