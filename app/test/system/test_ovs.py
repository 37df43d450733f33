# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""Stock Open vSwitch loads the plug-ins by DPDK's -d: the devices are there by name, it leaves
cleanly. (Open vSwitch has no port type for vDPA; nothing in it attaches a device to a socket.)"""

import shutil
import subprocess
from pathlib import Path

import pytest

from proc import wait_until

VSWITCHD = Path('/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk')
SCHEMA = Path('/usr/share/openvswitch/vswitch.ovsschema')
# --legacy-mem: else Open vSwitch adds --in-memory, which goes with no --no-huge
EAL = '--no-huge -m 512 --no-pci --legacy-mem --log-level=lib.vdpa:info'

pytestmark = pytest.mark.ours


class Switch:
    """A database and a switch of its own, in a folder of its own."""

    def __init__(self, programs, tools, folder: Path, devices: str):
        if not VSWITCHD.exists() or not shutil.which('ovsdb-server'):
            pytest.skip('openvswitch-switch-dpdk is not installed')
        if tools.builddir is None:
            pytest.skip('no plug-ins: give --builddir')
        self.folder = folder
        self.env = {name: str(folder) for name in ('OVS_RUNDIR', 'OVS_LOGDIR', 'OVS_DBDIR',
                                                   'RUNTIME_DIRECTORY')}
        socket = folder / 'db.sock'
        subprocess.run(['ovsdb-tool', 'create', folder / 'conf.db', SCHEMA], check=True)
        self.database = programs.start(
            ['ovsdb-server', folder / 'conf.db', f'--remote=punix:{socket}',
             f'--unixctl={folder}/db.ctl'], name='ovsdb-server', env=self.env)
        wait_until(socket.exists, 5.0, 'the database listens')
        self.vsctl('--no-wait', 'init')
        self.vsctl('--no-wait', 'set', 'Open_vSwitch', '.', 'other_config:dpdk-init=true',
                   f'other_config:dpdk-extra="{EAL} --file-prefix {folder.name} '
                   f'-d {tools.builddir}/drivers {devices}"')
        self.program = programs.start(
            [VSWITCHD, f'unix:{socket}', f'--unixctl={folder}/vs.ctl'], name='ovs-vswitchd',
            env=self.env)

    def vsctl(self, *words: str) -> str:
        done = subprocess.run(['ovs-vsctl', f'--db=unix:{self.folder}/db.sock', '--timeout=20',
                               *words], text=True, check=True, stdout=subprocess.PIPE)
        return done.stdout.strip()

    def exit(self) -> int:
        subprocess.run(['ovs-appctl', '-t', self.folder / 'vs.ctl', 'exit'], check=True, timeout=20)
        return self.program.wait(20)


def test_devices_are_there_and_it_leaves_cleanly(programs, tools, folder):
    switch = Switch(programs, tools, folder,
                    '--vdev vdpa_sw_net0,backend=loopback,max_vqp=2 --vdev vdpa_sw_net1')
    switch.program.wait_output('vdpa_sw_net0: registered, net, 5 virtqueues', 30.0)
    switch.program.wait_output('vdpa_sw_net1: registered, net, 3 virtqueues', 30.0)
    assert switch.vsctl('get', 'Open_vSwitch', '.', 'dpdk_initialized') == 'true'
    switch.vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0', 'datapath_type=netdev')
    switch.vsctl('add-port', 'br0', 'p0', '--', 'set', 'Interface', 'p0',
                 'type=dpdkvhostuserclient', f'options:vhost-server-path={folder}/p0.sock')
    assert switch.vsctl('get', 'Interface', 'p0', 'error') == '[]'
    assert switch.exit() == 0, switch.program.tail()


def test_a_bad_argument_is_named(programs, tools, folder):
    switch = Switch(programs, tools, folder, '--vdev vdpa_sw_net0,backend=nowhere')
    switch.program.wait_output('backend=nowhere: expected one of loopback, null, peer', 30.0)
