# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A vhost-user front end at the level of single messages, so that a test can also send wrong ones.

Written from QEMU's interop/vhost-user specification. Client and server mode differ only in who
connects: connect() and Listener.accept() both give a FrontEnd.
"""

import array
import os
import select
import socket
import struct
from enum import IntEnum
from typing import List, NamedTuple, Optional, Sequence, Tuple

from guest_memory import GuestMemory, Region


class Request(IntEnum):
    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SEND_RARP = 19
    NET_SET_MTU = 20
    SET_BACKEND_REQ_FD = 21
    IOTLB_MSG = 22
    GET_CONFIG = 24
    SET_CONFIG = 25
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    RESET_DEVICE = 34
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40


class Protocol(IntEnum):
    """Bits of the protocol feature word."""
    MQ = 0
    LOG_SHMFD = 1
    RARP = 2
    REPLY_ACK = 3
    MTU = 4
    BACKEND_REQ = 5
    CROSS_ENDIAN = 6
    CRYPTO_SESSION = 7
    PAGEFAULT = 8
    CONFIG = 9
    BACKEND_SEND_FD = 10
    HOST_NOTIFIER = 11
    INFLIGHT_SHMFD = 12
    RESET_DEVICE = 13
    INBAND_NOTIFICATIONS = 14
    CONFIGURE_MEM_SLOTS = 15
    STATUS = 16


class Feature(IntEnum):
    """Bits of the virtio feature word (virtio 1.2, sections 5.1.3 and 6) and vhost's own."""
    CSUM = 0
    GUEST_CSUM = 1
    CTRL_GUEST_OFFLOADS = 2
    MTU = 3
    MAC = 5
    GUEST_TSO4 = 7
    GUEST_TSO6 = 8
    GUEST_ECN = 9
    GUEST_UFO = 10
    HOST_TSO4 = 11
    HOST_TSO6 = 12
    HOST_ECN = 13
    HOST_UFO = 14
    MRG_RXBUF = 15
    STATUS = 16
    CTRL_VQ = 17
    CTRL_RX = 18
    CTRL_VLAN = 19
    CTRL_RX_EXTRA = 20
    GUEST_ANNOUNCE = 21
    MQ = 22
    CTRL_MAC_ADDR = 23
    LOG_ALL = 26
    ANY_LAYOUT = 27
    INDIRECT_DESC = 28
    EVENT_IDX = 29
    PROTOCOL_FEATURES = 30
    VERSION_1 = 32
    ACCESS_PLATFORM = 33
    RING_PACKED = 34
    IN_ORDER = 35
    ORDER_PLATFORM = 36
    SR_IOV = 37
    NOTIFICATION_DATA = 38
    NOTIF_CONFIG_DATA = 39
    RING_RESET = 40
    RSS = 60


STATUS_ACKNOWLEDGE = 1
STATUS_DRIVER = 2
STATUS_DRIVER_OK = 4
STATUS_FEATURES_OK = 8
STATUS_NEEDS_RESET = 64

FLAG_VERSION = 0x1
FLAG_REPLY = 0x4
FLAG_NEED_REPLY = 0x8
NO_FD = 0x100
HEADER = struct.Struct('=III')
MAX_FDS = 8


class Disconnected(ConnectionError):
    """The back end closed the connection."""


class NoAnswer(TimeoutError):
    """The back end did not answer in time."""


class Message(NamedTuple):
    request: int
    flags: int
    payload: bytes
    fds: List[int]

    def u64(self) -> int:
        return struct.unpack_from('=Q', self.payload)[0]

    def state(self) -> Tuple[int, int]:
        """Index and number of a vring state."""
        return struct.unpack_from('=II', self.payload)


def bits(*numbers: int) -> int:
    """A feature word with these bits set."""
    word = 0
    for number in numbers:
        word |= 1 << number
    return word


class Listener:
    """Server mode: the socket that a back end in client mode connects to."""

    def __init__(self, path: str):
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(path)
        self._socket.listen(8)

    def accept(self, timeout_s: float = 10.0) -> 'FrontEnd':
        """Wait for a back end."""
        self._socket.settimeout(timeout_s)
        try:
            connection, _ = self._socket.accept()
        except socket.timeout:
            raise NoAnswer(f'no back end connects to {self.path}') from None
        return FrontEnd(connection)

    def close(self) -> None:
        self._socket.close()
        if os.path.exists(self.path):
            os.unlink(self.path)


def connect(path: str, timeout_s: float = 5.0) -> 'FrontEnd':
    """Client mode: connect to a back end's socket."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return FrontEnd(connection, timeout_s)


class FrontEnd:
    """One connection. Methods named like a message send it, those of GET_* return the answer.

    After REPLY_ACK was agreed, set_* methods ask for an acknowledgement and raise if it is not 0,
    unless `acknowledge` is cleared."""

    def __init__(self, connection: socket.socket, timeout_s: float = 5.0):
        self.socket = connection
        self.socket.settimeout(timeout_s)
        self.protocol = 0
        self.acknowledge = True

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> 'FrontEnd':
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    # Level 1: bytes

    def send_bytes(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send anything."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))] if fds else []
        try:
            self.socket.sendmsg([data], ancillary)
        except (BrokenPipeError, ConnectionResetError):
            raise Disconnected('back end closed the connection') from None

    def send(self, request: int, payload: bytes = b'', fds: Sequence[int] = (), *,
             need_reply: bool = False, flags: int = FLAG_VERSION,
             size: Optional[int] = None) -> None:
        """Send one message; flags and size may lie."""
        if need_reply:
            flags |= FLAG_NEED_REPLY
        length = len(payload) if size is None else size
        self.send_bytes(HEADER.pack(request, flags, length) + payload, fds)

    def _receive_bytes(self, size: int, fds: List[int]) -> bytes:
        data = b''
        while len(data) < size:
            try:
                part, ancillary, _, _ = self.socket.recvmsg(
                    size - len(data), socket.CMSG_LEN(4 * MAX_FDS))
            except socket.timeout:
                raise NoAnswer('no answer from the back end') from None
            except ConnectionResetError:
                raise Disconnected('back end closed the connection') from None
            for level, kind, raw in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    received = array.array('i')
                    received.frombytes(raw[:len(raw) // 4 * 4])
                    fds.extend(received)
            if not part:
                raise Disconnected('back end closed the connection')
            data += part
        return data

    def receive(self) -> Message:
        """The next message from the back end."""
        fds: List[int] = []
        request, flags, size = HEADER.unpack(self._receive_bytes(HEADER.size, fds))
        payload = self._receive_bytes(size, fds) if size else b''
        return Message(request, flags, payload, fds)

    def ask(self, request: int, payload: bytes = b'', fds: Sequence[int] = ()) -> Message:
        """Send a request that has an answer of its own, and return that."""
        self.send(request, payload, fds)
        answer = self.receive()
        assert answer.request == request, f'answer {answer.request} to request {request}'
        assert answer.flags & FLAG_REPLY, f'no reply flag in {answer}'
        return answer

    def tell(self, request: int, payload: bytes = b'', fds: Sequence[int] = ()) -> None:
        """Send a request without an answer; acknowledged where that was agreed."""
        if not (self.acknowledge and self.protocol >> Protocol.REPLY_ACK & 1):
            self.send(request, payload, fds)
            return
        self.send(request, payload, fds, need_reply=True)
        answer = self.receive()
        assert answer.request == request, f'answer {answer.request} to request {request}'
        if answer.u64():
            raise RuntimeError(f'back end refused {Request(request).name}: {answer.u64()}')

    def closed_within(self, timeout_s: float) -> bool:
        """True if the back end closes the connection in that time; what it sent is dropped."""
        old = self.socket.gettimeout()
        self.socket.settimeout(timeout_s)
        try:
            while self.socket.recv(65536):
                pass
            return True
        except socket.timeout:
            return False
        except ConnectionResetError:
            return True
        finally:
            self.socket.settimeout(old)

    def hung_up_within(self, timeout_s: float) -> bool:
        """True if the back end closes the connection in that time; nothing is read."""
        poll = select.poll()
        poll.register(self.socket, 0)       # POLLHUP and POLLERR are always reported
        return bool(poll.poll(timeout_s * 1000))

    # Level 2: one method a message

    def get_features(self) -> int:
        return self.ask(Request.GET_FEATURES).u64()

    def set_features(self, features: int) -> None:
        self.tell(Request.SET_FEATURES, struct.pack('=Q', features))

    def get_protocol_features(self) -> int:
        return self.ask(Request.GET_PROTOCOL_FEATURES).u64()

    def set_protocol_features(self, features: int) -> None:
        """Not acknowledged: the features that it sets decide on that."""
        self.send(Request.SET_PROTOCOL_FEATURES, struct.pack('=Q', features))
        self.protocol = features

    def get_queue_num(self) -> int:
        return self.ask(Request.GET_QUEUE_NUM).u64()

    def set_owner(self) -> None:
        self.tell(Request.SET_OWNER)

    def reset_owner(self) -> None:
        self.tell(Request.RESET_OWNER)

    @staticmethod
    def mem_table(regions: Sequence[Region]) -> Tuple[bytes, List[int]]:
        """Payload and descriptors of SET_MEM_TABLE."""
        payload = struct.pack('=II', len(regions), 0)
        for region in regions:
            payload += struct.pack('=QQQQ', region.gpa, region.size, region.user_addr or 0,
                                   region.offset)
        return payload, [region.fd for region in regions]

    def set_mem_table(self, mem: GuestMemory) -> None:
        self.tell(Request.SET_MEM_TABLE, *self.mem_table(mem.regions))

    def get_max_mem_slots(self) -> int:
        return self.ask(Request.GET_MAX_MEM_SLOTS).u64()

    @staticmethod
    def mem_reg(region: Region) -> bytes:
        """Payload of ADD_MEM_REG and REM_MEM_REG."""
        return struct.pack('=QQQQQ', 0, region.gpa, region.size, region.user_addr or 0,
                           region.offset)

    def add_mem_reg(self, region: Region) -> None:
        self.tell(Request.ADD_MEM_REG, self.mem_reg(region), [region.fd])

    def rem_mem_reg(self, region: Region) -> None:
        self.tell(Request.REM_MEM_REG, self.mem_reg(region))

    def set_log_base(self, size: int, offset: int, fd: int) -> Message:
        return self.ask(Request.SET_LOG_BASE, struct.pack('=QQ', size, offset), [fd])

    def set_vring_num(self, index: int, size: int) -> None:
        self.tell(Request.SET_VRING_NUM, struct.pack('=II', index, size))

    def set_vring_base(self, index: int, base: int) -> None:
        self.tell(Request.SET_VRING_BASE, struct.pack('=II', index, base))

    def get_vring_base(self, index: int) -> int:
        answer = self.ask(Request.GET_VRING_BASE, struct.pack('=II', index, 0))
        number, base = answer.state()
        assert number == index, f'base of ring {number} instead of {index}'
        return base

    def set_vring_addr(self, index: int, desc: int, used: int, avail: int, *, flags: int = 0,
                       log: int = 0) -> None:
        """Addresses are the front end's own (user addresses), log is a guest address."""
        self.tell(Request.SET_VRING_ADDR,
                  struct.pack('=IIQQQQ', index, flags, desc, used, avail, log))

    def _vring_fd(self, request: int, index: int, fd: Optional[int]) -> None:
        if fd is None:
            self.tell(request, struct.pack('=Q', index | NO_FD))
        else:
            self.tell(request, struct.pack('=Q', index), [fd])

    def set_vring_kick(self, index: int, fd: Optional[int]) -> None:
        self._vring_fd(Request.SET_VRING_KICK, index, fd)

    def set_vring_call(self, index: int, fd: Optional[int]) -> None:
        self._vring_fd(Request.SET_VRING_CALL, index, fd)

    def set_vring_err(self, index: int, fd: Optional[int]) -> None:
        self._vring_fd(Request.SET_VRING_ERR, index, fd)

    def set_vring_enable(self, index: int, enable: bool) -> None:
        self.tell(Request.SET_VRING_ENABLE, struct.pack('=II', index, int(enable)))

    def set_status(self, status: int) -> None:
        self.tell(Request.SET_STATUS, struct.pack('=Q', status))

    def get_status(self) -> int:
        return self.ask(Request.GET_STATUS).u64()

    def get_config(self, offset: int, size: int) -> bytes:
        """Bytes of the device's config space. Empty if the back end reports an error."""
        answer = self.ask(Request.GET_CONFIG, struct.pack('=III', offset, size, 0) + bytes(size))
        return answer.payload[12:]

    def set_config(self, offset: int, data: bytes, flags: int = 0) -> None:
        self.tell(Request.SET_CONFIG, struct.pack('=III', offset, len(data), flags) + data)

    def net_set_mtu(self, mtu: int) -> None:
        self.tell(Request.NET_SET_MTU, struct.pack('=Q', mtu))

    def send_rarp(self, mac: bytes) -> None:
        self.tell(Request.SEND_RARP, mac + bytes(2))

    def set_backend_req_fd(self) -> socket.socket:
        """Give the back end a channel for its own requests; returns our end of it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.settimeout(5)
        with theirs:
            self.tell(Request.SET_BACKEND_REQ_FD, b'', [theirs.fileno()])
        return ours
