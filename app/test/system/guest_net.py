# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""What runs inside a test guest: interfaces, numbered frames, TCP transfers.

Called by guest_agent.py; arguments and results are plain JSON values.
"""

import random
import select
import socket
import struct
import time
from pathlib import Path
from typing import Dict, List, Optional

ETH_P_IP = 0x0800
MAX_FRAME = 1514
HEADERS = 14 + 20 + 8           # Ethernet, IPv4, UDP
TAG = struct.Struct('!III')     # run, flow, number: opens each frame's payload
MIN_FRAME = 60
PATTERN_STEP = 997
BLOCK = 1 << 20
PACKET_STATISTICS = 6
SOL_PACKET = 263


def nics() -> List[Dict]:
    """Every network interface of a virtio device: name, mac, device, driver's queue pairs."""
    found = []
    for net in sorted(Path('/sys/class/net').iterdir()):
        device = (net / 'device').resolve()
        if not device.name.startswith('virtio'):
            continue
        bits = (device / 'features').read_text().strip()
        found.append({'name': net.name, 'mac': (net / 'address').read_text().strip(),
                      'mtu': int((net / 'mtu').read_text()), 'device': device.name,
                      'features': [n for n, bit in enumerate(bits) if bit == '1'],
                      'pairs': len(list((net / 'queues').glob('tx-*')))})
    return found


def wait_nic(count: int, limit_s: float) -> List[Dict]:
    """Wait until there are count interfaces of virtio devices."""
    end = time.monotonic() + limit_s
    while True:
        found = nics()
        if len(found) == count:
            return found
        if time.monotonic() > end:
            raise TimeoutError(f'{len(found)} interfaces after {limit_s:g} s: {found}')
        time.sleep(0.01)


def wait_carrier(name: str, up: bool, limit_s: float) -> float:
    """Wait for the carrier (the interface is administratively up); seconds that it took."""
    begin = time.monotonic()
    while time.monotonic() < begin + limit_s:
        if (Path('/sys/class/net') / name / 'carrier').read_text().strip() == str(int(up)):
            return time.monotonic() - begin
        time.sleep(0.005)
    raise TimeoutError(f'carrier of {name} is not {int(up)} after {limit_s:g} s')


def write_file(path: str, text: str) -> None:
    """Write to a file of sysfs or procfs."""
    Path(path).write_text(text)


class Frames:
    """Numbered UDP frames of one run. Flows differ by port, so that they spread over queues."""

    def __init__(self, run: int, smallest: int = MIN_FRAME, largest: int = MAX_FRAME,
                 source: str = '02:00:00:00:00:01', destination: str = 'ff:ff:ff:ff:ff:ff'):
        rng = random.Random(run)
        self.run = run
        self.ethernet = bytes.fromhex((destination + source).replace(':', '')) + b'\x08\x00'
        self.sizes = [rng.randint(smallest, largest) for _ in range(1009)]
        self.pattern = rng.randbytes(2 * MAX_FRAME + PATTERN_STEP)

    def frame(self, flow: int, number: int) -> bytes:
        """The one right content of a frame, headers included."""
        size = self.sizes[(number * 31 + flow) % len(self.sizes)]
        start = (number * 7 + flow) % PATTERN_STEP
        payload = TAG.pack(self.run, flow, number)
        payload += self.pattern[start:start + size - HEADERS - TAG.size]
        udp = struct.pack('!HHHH', 4000 + flow, 5000, 8 + len(payload), 0)
        ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 28 + len(payload), 0, 0x4000, 9, 17, 0,
                         b'\xc6\x12\x00\x01', b'\xc6\x13\x00\x02')
        return self.ethernet + ip + udp + payload


class Checker:
    """Judges received frames of one run: next in its flow, late, lost, changed or foreign."""

    def __init__(self, frames: Frames, flows: int):
        self.frames, self.next = frames, [0] * flows
        self.received = self.changed = self.reordered = self.foreign = self.gaps = 0
        self.examples: List[str] = []

    def take(self, data: bytes) -> None:
        if len(data) < HEADERS + TAG.size:
            self.foreign += 1
            return
        run, flow, number = TAG.unpack_from(data, HEADERS)
        if run != self.frames.run or flow >= len(self.next):
            self.foreign += 1
            return
        self.received += 1
        wanted = self.frames.frame(flow, number)
        if data != wanted:
            self.changed += 1
            if len(self.examples) < 2:
                self.examples.append(f'flow {flow} number {number}: {len(data)} bytes '
                                     f'{data[:80].hex()}, not {len(wanted)} {wanted[:80].hex()}')
        if number < self.next[flow]:
            self.reordered += 1         # late, or once too often
        else:
            self.gaps += number - self.next[flow]
            self.next[flow] = number + 1

    def report(self, sent: int, seconds: float) -> Dict:
        return {'sent': sent, 'received': self.received, 'lost': sent - self.received,
                'changed': self.changed, 'reordered': self.reordered, 'gaps': self.gaps,
                'foreign': self.foreign, 'examples': self.examples, 'seconds': seconds}


def packet_socket(name: str, receive_bytes: int = 8 << 20) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.setsockopt(socket.SOL_SOCKET, 33, receive_bytes)       # SO_RCVBUFFORCE
    sock.bind((name, ETH_P_IP))
    sock.setblocking(False)
    return sock


def drops_of(sock: socket.socket) -> int:
    """Frames that the packet socket itself could not keep (a fault of the test, not of the NIC)."""
    return struct.unpack('II', sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]


def exchange(name: str, count: int, run: int = 1, flows: int = 1, window: int = 128,
             idle_s: float = 10.0, smallest: int = MIN_FRAME, largest: int = MAX_FRAME) -> Dict:
    """Send count frames into a loopback and judge what comes back, at most window on the way.

    Ends when all are back, or nothing came for idle_s."""
    frames = Frames(run, smallest, largest)
    check = Checker(frames, flows)
    sent, begin = 0, time.monotonic()
    last = begin
    with packet_socket(name) as sock:
        while check.received < count and time.monotonic() < last + idle_s:
            while sent < count and sent - check.received < window:
                try:
                    sock.send(frames.frame(sent % flows, sent // flows))
                except (BlockingIOError, OSError) as error:
                    if error.errno not in (11, 105):        # EAGAIN, ENOBUFS: queue full
                        raise
                    break
                sent += 1
            if not select.select([sock], [], [], 0.05)[0]:
                continue
            last = time.monotonic()
            try:
                while True:
                    check.take(sock.recv(65536))
            except BlockingIOError:
                pass
        dropped = drops_of(sock)
    return {**check.report(sent, time.monotonic() - begin), 'socket_drops': dropped}


def send_frames(name: str, seconds: float, run: int = 1, flows: int = 1,
                count: Optional[int] = None) -> Dict:
    """Send frames without awaiting any, for so long or so many; a full queue is waited for."""
    frames = Frames(run)
    sent, full, end = 0, 0, time.monotonic() + seconds
    with packet_socket(name) as sock:
        while time.monotonic() < end and (count is None or sent < count):
            try:
                sock.send(frames.frame(sent % flows, sent // flows))
                sent += 1
            except OSError as error:
                if error.errno not in (11, 105):
                    raise
                full += 1
                time.sleep(0.001)
    return {'sent': sent, 'full': full}


def receive_frames(name: str, run: int, flows: int = 1, count: int = 0, seconds: float = 10.0,
                   first_may_miss: bool = False) -> Dict:
    """Judge frames of another guest: until count have come, at most so long."""
    check = Checker(Frames(run), flows)
    begin = time.monotonic()
    with packet_socket(name) as sock:
        while time.monotonic() < begin + seconds and not 0 < count <= check.received:
            if select.select([sock], [], [], 0.05)[0]:
                data = sock.recv(65536)
                if first_may_miss and check.received == 0 and len(data) >= HEADERS + TAG.size:
                    number = TAG.unpack_from(data, HEADERS)[2]
                    check.next = [number] * flows
                check.take(data)
        dropped = drops_of(sock)
    return {**check.report(check.received + check.gaps, time.monotonic() - begin),
            'socket_drops': dropped}


def stream_block(seed: int) -> bytearray:
    """What a TCP stream repeats; each copy is stamped with its number."""
    return bytearray(random.Random(seed).randbytes(BLOCK))


def tcp_send(address: str, port: int, size: int, seed: int = 7, limit_s: float = 60.0) -> Dict:
    """Send size bytes to tcp_receive and wait for its word that all was right."""
    block = stream_block(seed)
    with connect(address, port, limit_s) as sock:
        begin = time.monotonic()
        for number in range(0, size, BLOCK):
            struct.pack_into('!Q', block, 0, number)
            sock.sendall(memoryview(block)[:min(BLOCK, size - number)])
        sock.shutdown(socket.SHUT_WR)
        verdict = sock.recv(100).decode()
    return {'verdict': verdict, 'seconds': time.monotonic() - begin}


def connect(address: str, port: int, limit_s: float) -> socket.socket:
    """Connect, again and again while nobody listens yet."""
    end = time.monotonic() + limit_s
    while True:
        try:
            return socket.create_connection((address, port), limit_s)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def tcp_receive(port: int, size: int, seed: int = 7, limit_s: float = 60.0) -> Dict:
    """Take one connection and compare every byte of it with what tcp_send sends."""
    block, got = stream_block(seed), bytearray(BLOCK)
    received, wrong = 0, []
    with socket.create_server(('', port)) as server:
        server.settimeout(limit_s)
        sock, _ = server.accept()
    with sock:
        sock.settimeout(limit_s)
        begin = time.monotonic()
        while True:
            length = read_block(sock, got)
            if length == 0:
                break
            struct.pack_into('!Q', block, 0, received)
            if (got if length == BLOCK else got[:length]) != block[:length]:
                wrong.append(received)
            received += length
        verdict = 'right' if received == size and not wrong else \
            f'{received} of {size} bytes, wrong in the blocks at {wrong[:5]} ({len(wrong)})'
        sock.sendall(verdict.encode())
    return {'verdict': verdict, 'received': received, 'seconds': time.monotonic() - begin}


def read_block(sock: socket.socket, buffer: bytearray) -> int:
    """Fill the buffer from a stream; fewer bytes at its end only."""
    view, length = memoryview(buffer), 0
    while length < len(buffer):
        part = sock.recv_into(view[length:])
        if part == 0:
            break
        length += part
    return length
