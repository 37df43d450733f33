# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The vDPA framework authors
"""What is installed works away from the build folder: library, headers, plug-ins, programs."""

import os
import shutil
import subprocess

import pytest

PREFIX = "usr/local"
EAL = ["--no-huge", "-m", "512", "--no-pci", "--lcores", "0@0,1@0", "--file-prefix"]
USER = """
#include <errno.h>
#include <vdpa_dpdk_abi.h>

int
main(void)
{
	return vdpa_dpdk_check(RTE_VER_YEAR, RTE_VER_MONTH) == 0 &&
		vdpa_dpdk_check(RTE_VER_YEAR + 1, RTE_VER_MONTH) == -ENOTSUP ? 0 : 1;
}
"""


def run(*command, **options):
    """Runs a command; what it says on both outputs is in .stdout."""
    return subprocess.run([str(word) for word in command], text=True, check=False, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          **{"stdin": subprocess.DEVNULL, **options})


@pytest.fixture(scope="module", name="root")
def installed(builddir):
    """The folder that the build was installed into. Not below /tmp: DPDK loads nothing there."""
    folder = builddir / "installed"
    shutil.rmtree(folder, ignore_errors=True)
    done = run("meson", "install", "-C", builddir, "--no-rebuild",
               env={**os.environ, "DESTDIR": str(folder)})
    assert done.returncode == 0, done.stdout
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module", name="plugins")
def plugin_folder(root):
    return next(root.rglob("vdpa_sw_net.so")).parent


def test_a_program_is_built_with_the_pkg_config_file(root, tmp_path):
    pkg_config = next(root.rglob("libvdpa.pc"))
    # As if it had been installed to where it now lies.
    (tmp_path / "libvdpa.pc").write_text(
        pkg_config.read_text().replace("prefix=/usr/local\n", f"prefix={root / PREFIX}\n"))
    flags = run("pkg-config", "--cflags", "--libs", "libvdpa",
                env={**os.environ, "PKG_CONFIG_PATH": str(tmp_path)})
    assert flags.returncode == 0, flags.stdout
    assert f"-I{root / PREFIX}/include/vdpa" in flags.stdout
    source = tmp_path / "user.c"
    source.write_text(USER)
    done = run("cc", "-D_GNU_SOURCE", source, "-o", tmp_path / "user", *flags.stdout.split())
    assert done.returncode == 0, done.stdout
    libdir = pkg_config.parent.parent
    done = run(tmp_path / "user", env={**os.environ, "LD_LIBRARY_PATH": str(libdir)})
    assert done.returncode == 0, done.stdout


def test_stock_testpmd_loads_the_folder(plugins):
    """All plug-ins by one -d, and libvdpa found without any search path."""
    testpmd = shutil.which("dpdk-testpmd")
    if testpmd is None:
        pytest.skip("dpdk-testpmd is not installed")
    done = run(testpmd, *EAL, f"vdpa-install-{os.getpid()}", "-d", plugins,
               "--vdev", "vdpa_sw_net0,backend=loopback", "--vdev", "net_null0", "--",
               "-i", "--no-mlockall", "--total-num-mbufs=4096", input="quit\n", stdin=None)
    assert done.returncode == 0, done.stdout
    assert "testpmd> quit" in done.stdout or "Stopping ports" in done.stdout, done.stdout


def test_stock_testpmd_names_a_bad_argument(plugins):
    """The plug-in that was loaded is ours: it refuses what it does not know."""
    testpmd = shutil.which("dpdk-testpmd")
    if testpmd is None:
        pytest.skip("dpdk-testpmd is not installed")
    done = run(testpmd, *EAL, f"vdpa-install-{os.getpid()}", "-d", plugins,
               "--vdev", "vdpa_sw_net0,colour=red", "--", "-i")
    assert done.returncode != 0
    assert "colour" in done.stdout


def test_the_daemon_starts_with_its_plugins(root):
    daemon = root / PREFIX / "bin" / "dpdk-vdpa"
    libraries = run("ldd", daemon).stdout
    for name in ("libvdpa.so.0", "vdpa_sw_net.so", "vdpa_vhost.so"):
        line = next(line for line in libraries.splitlines() if name in line)
        assert str(root) in line, libraries
    assert run(daemon, "--version").returncode == 0
