# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""A Debian guest under stock QEMU without KVM as front end: slow, so little traffic, Debian 12 only.

QEMU serves the control virtqueue itself and tells the back end which queue pairs are on.
"""

import threading
from typing import Callable

import pytest

from linux import (RING_PACKED, connect_pair, exchange, ping, serve, transfer, without)
from migration import mode_of
from proc import wait_until
from tcg import Sender, Tcg, boot_files
from uml import Uml, kernel

__all__ = ['boot_files', 'serve']   # fixtures

FRAMES = 2000
MIB = 1 << 20


@pytest.fixture
def boot(need_qemu, programs, folder, tools, boot_files) -> Callable[..., Tcg]:
    """Boot a guest with a network device for each socket."""
    return lambda *paths, **options: Tcg(programs, folder, paths, qemu=tools.qemu, files=boot_files,
                                         **options)


def in_qemu(backend):
    """QEMU serves the control virtqueue, so its sockets need no filter: the back end's own paths."""
    return backend.backend.paths


@pytest.mark.parametrize('nic', [
    pytest.param('', id='split'),
    pytest.param('packed=on', id='packed', marks=pytest.mark.ours),
    pytest.param('mrg_rxbuf=off,csum=off,guest_csum=off', id='plain', marks=pytest.mark.ours),
])
def test_frames_come_back(serve, boot, is_long, nic):
    served = serve()
    with boot(*in_qemu(served), nic=nic) as guest:
        guest.nic_up()
        exchange(guest, FRAMES * (20 if is_long else 1), idle_s=10)
        guest.run('ip', 'link', 'set', 'eth0', 'down')
        guest.run('ip', 'link', 'set', 'eth0', 'up')
        guest.wait_carrier(True)
        exchange(guest, FRAMES, run=2, idle_s=10)
    served.backend.expect_alive()


def test_queue_pairs_and_driver_are_changed(serve, boot):
    served = serve(pairs=2)
    with boot(*in_qemu(served), pairs=2) as guest:
        for run in range(2):
            nic = guest.nic_up()
            for pairs in (2, 1, 2):
                guest.run('ethtool', '-L', 'eth0', 'combined', str(pairs))
                exchange(guest, FRAMES, run=10 * run + pairs, flows=8, idle_s=10)
            guest.unbind(nic)
            guest.bind(nic)
    served.backend.expect_alive()


@pytest.mark.ours
@pytest.mark.parametrize('devargs', [without(), without(RING_PACKED)], ids=['all', 'split'])
def test_talks_with_user_mode_linux(serve, boot, programs, folder, is_long, record_property,
                                    devargs):
    """Debian's kernel under QEMU and Linux 7.2 in User Mode Linux, joined."""
    served = serve(devargs, sockets=2, joined=True)
    with boot(served.paths[0], name='debian') as debian, \
            Uml(programs, folder, [served.paths[1]], name='uml', kernel=kernel()) as uml:
        connect_pair(debian, uml)
        ping(debian, '10.9.0.2', 5)
        ping(uml, '10.9.0.1', 5)
        size = (256 if is_long else 16) * MIB
        record_property('to_uml', round(transfer(debian, uml, '10.9.0.2', size)))
        record_property('to_debian', round(transfer(uml, debian, '10.9.0.1', size, port=5002)))


@pytest.mark.ours
def test_guest_killed_in_traffic(serve, boot):
    served = serve()
    with boot(*in_qemu(served), name='first') as guest:
        guest.nic_up()
        guest.begin('exchange', name='eth0', count=1_000_000)
        guest.sh('sleep 0.5')
        guest.kill()
    served.backend.expect_alive()
    with boot(*in_qemu(served), name='second') as guest:
        guest.nic_up()
        exchange(guest, FRAMES, idle_s=10)


# Takes a file over TCP, slowly, so that it lasts, and says its SHA-256; its progress is in a file.
RECEIVE = '''
import hashlib, os, socket, time
taken, digest = 0, hashlib.sha256()
with socket.create_server(('', 5001)) as server:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    server.settimeout(100)
    sock, _ = server.accept()
sock.settimeout(60)
while True:
    data = sock.recv(64 << 10)
    if not data:
        break
    digest.update(data)
    taken += len(data)
    with open('/run/taken.new', 'w') as file:
        file.write(str(taken))
    os.rename('/run/taken.new', '/run/taken')
    time.sleep(len(data) / 2e6)
print(taken, digest.hexdigest())
'''


@pytest.mark.ours
@pytest.mark.parametrize('devargs, nic', [('log=off', ''), ('', 'packed=on')],
                         ids=['mirrored-split', 'log-packed'])
def test_transfer_outlives_a_live_migration(serve, boot_files, need_qemu, programs, folder, tools,
                                            devargs, nic):
    """Debian sends a file while it moves between two devices; Linux under UML hears on both."""
    mib = 16
    served = serve([devargs, '', devargs, ''], sockets=4, joined=True, options=['--interactive'])
    paths, backend = served.backend.paths, served.backend

    def sender(number, *options):
        return Sender(programs, folder, tools.qemu, boot_files, paths[2 * number], nic=nic,
                      name=f'debian{number}', address='10.9.0.1', to='10.9.0.2', port=5001,
                      mib=mib, options=options)
    with Uml(programs, folder, [paths[1], paths[3]], name='uml', kernel=kernel()) as uml:
        # one address for both: Debian goes on sending to the one that it knows
        uml.sh('''ip link set eth1 address $(cat /sys/class/net/eth0/address)
                  ip link set eth0 up; ip link set eth1 up
                  ip addr add 10.9.0.2/32 dev lo; ip link set lo up
                  ip route replace 10.9.0.1 dev eth0 src 10.9.0.2''')
        received = []
        receiver = threading.Thread(target=lambda: received.append(
            uml.python(RECEIVE, timeout_s=150, check=False).out), daemon=True)
        receiver.start()
        source = sender(0)
        target = sender(1, '-incoming', f'unix:{folder}/migrate', '-S')

        def taken():
            return int(uml.sh('cat /run/taken 2>/dev/null || echo 0').out)
        wait_until(lambda: taken() > MIB, 60, 'the transfer runs', 0.2)

        def meanwhile():
            wait_until(lambda: mode_of(backend, 0)['log'] == 'on', 10, 'the log is engaged')
            before = taken()
            wait_until(lambda: taken() > before + 2 * MIB, 60, 'the transfer goes on meanwhile', 0.2)
            assert mode_of(backend, 0)['mode'] == \
                ('relayed: log wanted' if devargs else 'logging: log wanted')
        source.migrate(target, f'unix:{folder}/migrate', meanwhile)
        assert taken() < mib * MIB, 'the transfer is over: the test shows nothing'
        uml.sh('ip route replace 10.9.0.1 dev eth1 src 10.9.0.2; ip neigh flush all')
        receiver.join(100)
        assert received, f'no end: {taken()} bytes\n{target.said()}'
        assert len(received[0].split()) == 2, f'{received[0]}\n{target.said()}'
        size, digest = received[0].split()
        assert int(size) == mib * MIB
        assert f'sum {digest}' in source.said()
        wait_until(lambda: 'nc ended with 0' in target.said(), 20, 'the guest has heard of the end')
        assert target.program.wait(20) == 0
    backend.expect_alive()
