# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A vhost-user relay that hides feature bits (and protocol MQ) of a back end from its front end.

Stock net_vhost offers CTRL_VQ, but leaves it to QEMU to serve; a front end that passes the control
virtqueue on (User Mode Linux) would spin on it. Only messages go through the relay, rings do not.
"""

import array
import os
import select
import socket
import struct
import threading
from pathlib import Path
from typing import List, Tuple

HEADER = struct.Struct('<III')
GET_FEATURES, GET_PROTOCOL_FEATURES = 1, 15
PROTOCOL_MQ = 1 << 0        # User Mode Linux takes the number of pairs for one of rings: too few
MAX_FDS = 16


def receive(sock: socket.socket) -> Tuple[bytes, List[int]]:
    """One message with its descriptors; b'' at the end of the connection."""
    room = array.array('i')
    data, ancillary, _, _ = sock.recvmsg(HEADER.size, socket.CMSG_LEN(MAX_FDS * room.itemsize))
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            room.frombytes(value[:len(value) - len(value) % room.itemsize])
    while 0 < len(data) < HEADER.size:
        data += sock.recv(HEADER.size - len(data))
    length = HEADER.unpack(data)[2] if data else 0
    while length > len(data) - HEADER.size:
        part = sock.recv(length - len(data) + HEADER.size)
        if not part:
            return b'', list(room)
        data += part
    return data, list(room)


class FeatureFilter:
    """Listens on `path` for one front end after the other and connects each to `backend`."""

    def __init__(self, path: str, backend: str, hidden: int):
        self.path, self.backend = path, backend
        self.hidden = {GET_FEATURES: hidden, GET_PROTOCOL_FEATURES: PROTOCOL_MQ}
        Path(path).unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(path)
        self._server.listen(1)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                front, _ = self._server.accept()
            except OSError:             # close()
                return
            with front, socket.socket(socket.AF_UNIX) as back:
                try:
                    back.connect(self.backend)
                    self._relay(front, back)
                except OSError:         # either side ended: so does the other
                    pass

    def _relay(self, front: socket.socket, back: socket.socket) -> None:
        while True:
            for side in select.select([front, back], [], [])[0]:
                data, fds = receive(side)
                if not data:
                    return
                hidden = self.hidden.get(HEADER.unpack_from(data)[0], 0)
                if side is back and hidden:
                    offered, = struct.unpack_from('<Q', data, HEADER.size)
                    data = data[:HEADER.size] + struct.pack('<Q', offered & ~hidden)
                other = front if side is back else back
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', fds))]
                other.sendmsg([data], rights if fds else [])
                for fd in fds:
                    os.close(fd)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
