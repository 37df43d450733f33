# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A virtio-net driver that speaks vhost-user itself: memory, rings and connection of one guest.

Memory and rings live on when the connection is lost, as a guest's do.
"""

import os
import select
from typing import List, Optional, Sequence

from guest_memory import GuestMemory, Region, create_memory_file
from traffic import Stream
from vhost_user import (STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FEATURES_OK,
                        Disconnected, Feature, FrontEnd, NoAnswer, Protocol, bits, connect)
from vnet import Flow, NetPair, run_flows
from vring import make_ring

BASIC = bits(Feature.VERSION_1, Feature.PROTOCOL_FEATURES, Feature.MRG_RXBUF)
WANTED_PROTOCOL = bits(Protocol.MQ, Protocol.REPLY_ACK, Protocol.STATUS)
MEMORY_BYTES = 32 << 20


class EventFd:
    """An eventfd with the two things that a test does to one."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def signal(self) -> None:
        os.eventfd_write(self.fd, 1)

    def take(self, timeout_s: float = 0.0) -> int:
        """Wait for signals; how many came since the last call."""
        if not select.select([self.fd], [], [], timeout_s)[0]:
            return 0
        return os.eventfd_read(self.fd)

    def close(self) -> None:
        os.close(self.fd)


class RawNic:
    """pairs queue pairs of ring_size entries. features is what the driver wants at most."""

    def __init__(self, *, pairs: int = 1, ring_size: int = 256, features: int = BASIC,
                 protocol: int = WANTED_PROTOCOL, sealed: bool = True,
                 memory_bytes: int = MEMORY_BYTES, **net_options):
        self.pairs, self.ring_size = pairs, ring_size
        self.wanted, self.wanted_protocol = features, protocol
        self.net_options = net_options
        self.mem = GuestMemory()
        self.ram = self.mem.add(Region(0x100000, memory_bytes,
                                       create_memory_file('ram', memory_bytes, sealed)))
        self.features = 0
        self.vu: Optional[FrontEnd] = None
        self.rings: List = []
        self.net: List[NetPair] = []
        self.kicks = [EventFd() for _ in range(2 * pairs)]
        self.calls = [EventFd() for _ in range(2 * pairs)]

    # Connection

    def attach(self, front_end: FrontEnd) -> 'RawNic':
        """Use this connection from now on."""
        self.vu = front_end
        return self

    def connect(self, path: str, timeout_s: float = 5.0) -> 'RawNic':
        return self.attach(connect(path, timeout_s))

    def has(self, feature: int) -> bool:
        return bool(self.features >> feature & 1)

    def negotiate(self) -> int:
        """Agree on features: the wanted ones that are offered. Returns what was offered."""
        assert self.vu is not None
        offered = self.vu.get_features()
        self.features = offered & self.wanted
        if self.has(Feature.PROTOCOL_FEATURES):
            protocol = self.vu.get_protocol_features()
            self.vu.set_protocol_features(protocol & self.wanted_protocol)
        self.vu.set_owner()
        return offered

    def agree(self) -> None:
        """Tell the features, with the device status where that was agreed on."""
        assert self.vu is not None
        self.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER)
        self.vu.set_features(self.features)
        self.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK)

    def set_status(self, status: int) -> None:
        assert self.vu is not None
        if self.vu.protocol >> Protocol.STATUS & 1:
            self.vu.set_status(status)

    # Rings

    def make_rings(self) -> None:
        """New, empty rings, as a driver makes them after a reset."""
        self.mem.use_for_alloc(self.ram.gpa + 0x1000, self.ram.gpa + self.ram.size)
        self.rings = [make_ring(self.mem, self.ring_size, self.has(Feature.RING_PACKED),
                                event_idx=self.has(Feature.EVENT_IDX),
                                in_order=self.has(Feature.IN_ORDER))
                      for _ in range(2 * self.pairs)]
        self.net = [NetPair(self.mem, self.rings[2 * n], self.rings[2 * n + 1],
                            self.kicks[2 * n].signal, self.kicks[2 * n + 1].signal,
                            mergeable=self.has(Feature.MRG_RXBUF), **self.net_options)
                    for n in range(self.pairs)]
        for pair in self.net:
            pair.fill_rx()

    def set_ring_addr(self, index: int, flags: int = 0, log: int = 0) -> None:
        assert self.vu is not None
        ring, user = self.rings[index], self.mem.user_addr
        self.vu.set_vring_addr(index, user(ring.desc_addr), user(ring.device_addr),
                               user(ring.driver_addr), flags=flags, log=log)

    def start_ring(self, index: int, base: Optional[int] = None) -> None:
        """Size, base, addresses, kick and call of one ring, in QEMU's order."""
        assert self.vu is not None
        self.vu.set_vring_num(index, self.ring_size)
        self.vu.set_vring_base(index, self.rings[index].base() if base is None else base)
        self.set_ring_addr(index)
        self.vu.set_vring_kick(index, self.kicks[index].fd)
        self.vu.set_vring_call(index, self.calls[index].fd)

    def start(self, active_pairs: Optional[int] = None) -> 'RawNic':
        """Memory, rings, enable, DRIVER_OK. Rings go on where the memory says that they stand."""
        assert self.vu is not None
        if not self.rings:
            self.make_rings()
        self.vu.set_mem_table(self.mem)
        indexes = range(2 * (self.pairs if active_pairs is None else active_pairs))
        for index in indexes:
            self.start_ring(index)
        if self.has(Feature.PROTOCOL_FEATURES):
            for index in indexes:
                self.vu.set_vring_enable(index, True)
        self.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK)
        for kick in self.kicks:
            kick.signal()       # a kick that an earlier back end took is not lost
        return self

    def bring_up(self, path: str) -> 'RawNic':
        """All of it: connect, negotiate, start."""
        self.connect(path)
        self.negotiate()
        self.agree()
        return self.start()

    def stop(self) -> List[int]:
        """GET_VRING_BASE for all rings: their bases. The rings are stopped then."""
        assert self.vu is not None
        return [self.vu.get_vring_base(index) for index in range(len(self.rings))]

    def flows(self, streams: Sequence[Stream]) -> List[Flow]:
        return [Flow(pair, stream) for pair, stream in zip(self.net, streams)]

    def disconnect(self) -> None:
        if self.vu is not None:
            self.vu.close()
            self.vu = None

    def close(self) -> None:
        """May be called again."""
        self.disconnect()
        for event in self.kicks + self.calls:
            event.close()
        self.kicks, self.calls = [], []
        self.rings.clear()
        self.net.clear()
        self.mem.close()


def works(path: str) -> bool:
    """True if a new front end on this socket gets its frames back."""
    nic = RawNic(pairs=2)
    try:
        nic.bring_up(path)
        stream = Stream(9)
        run_flows(nic.flows([stream]), 50, idle_s=5.0)
        return stream.books().clean()
    except (Disconnected, NoAnswer, ConnectionRefusedError):
        return False
    finally:
        nic.close()
