# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""What a back end's process tells of itself, by DPDK's telemetry socket."""

import json
import socket
from typing import Any

from backend import Backend


def ask(backend: Backend, command: str) -> Any:
    """The answer to a telemetry command of a running back end; None if it is refused."""
    folder = backend.folder / 'dpdk' / backend.folder.name
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as telemetry:
        telemetry.settimeout(30.0)
        telemetry.connect(str(folder / 'dpdk_telemetry.v2'))
        telemetry.recv(1024)
        telemetry.send(command.encode())
        return json.loads(telemetry.recv(65536))[command.split(',')[0]]
