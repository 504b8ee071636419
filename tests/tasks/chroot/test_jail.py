"""What a jail keeps to itself."""

from __future__ import annotations

import logging
import os
import signal
import socket
from pathlib import Path

import pytest

from blocks.errors import CommunicatorError, WaitExpired
from tasks.chroot.communicator import JailCommunicator
from tasks.chroot.device import links_of
from tasks.chroot.jail import Jail
from tasks.chroot.mounts import Mount
from tasks.communicator import read
from tests.tasks.chroot.cellar import Volume, host, is_free, is_mounted_at, parent_of, until, until_running

_ALWAYS = ["fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"]


async def test_the_host_sees_no_mount_of_a_jail(volume: Volume, tmp_path: Path) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    async with Jail(tmp_path / "mounted") as jail:
        await jail.mount_device(volume.partition)
        await jail.mount_extra(disk=volume.disk)
        await read(JailCommunicator(jail), "mkdir -p /mnt/x && mount -t tmpfs x /mnt/x")
        assert not is_mounted_at(tmp_path)
        assert {
            line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(tmp_path) in line
        } == set()
        assert (tmp_path / "mounted").is_dir()
        assert list((tmp_path / "mounted").iterdir()) == []
    assert not (tmp_path / "mounted").exists()
    # Other tests may link and mount at the same time: only what is ours counts.
    assert str(tmp_path) not in before


async def test_a_mount_path_that_was_there_stays(volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    async with Jail(tmp_path / "mine") as jail:
        await jail.mount_device(volume.partition)
    assert (tmp_path / "mine").is_dir()


async def test_its_dev_has_the_standard_nodes_and_its_own_disk_alone(jail: Jail, volume: Volume) -> None:
    communicator = JailCommunicator(jail)
    _, names = await read(communicator, "ls /dev")
    own = [Path(volume.disk).name, Path(volume.partition).name]
    assert sorted(names.split()) == sorted([*_ALWAYS, *own])
    code, _ = await read(communicator, f"dd if={volume.disk} of=/dev/null bs=512 count=1 && test -b {volume.partition}")
    assert code == 0
    assert await read(communicator, "echo gone > /dev/null; head -c 3 /dev/zero | wc -c; echo out > /dev/stdout") == (
        0,
        "3\nout",
    )
    assert (await read(communicator, "ls /dev/pts"))[1] == "ptmx"


async def test_other_names_of_the_disk_lead_to_it_inside(volume: Volume, tmp_path: Path) -> None:
    alias = Path(f"/dev/disk/by-id/bakery-test-{os.getpid()}-{Path(volume.disk).name}")
    alias.parent.mkdir(parents=True, exist_ok=True)
    alias.symlink_to(volume.disk)
    try:
        async with Jail(tmp_path / "mounted") as jail:
            await jail.mount_device(volume.partition)
            await jail.mount_extra(disk=volume.disk, links={str(alias): volume.disk})
            assert await read(JailCommunicator(jail), f"readlink {alias}") == (0, volume.disk)
    finally:
        alias.unlink()


async def test_file_systems_are_found_by_their_ids_as_boot_loaders_do(volume: Volume, tmp_path: Path) -> None:
    identifier = host("blkid", "--probe", "--output", "value", "--match-tag", "UUID", volume.partition)
    links = await links_of(volume.disk)
    assert links[f"/dev/disk/by-uuid/{identifier}"] == volume.partition
    async with Jail(tmp_path / "mounted") as jail:
        await jail.mount_device(volume.partition)
        await jail.mount_extra(disk=volume.disk, links=links)
        read_link = f"readlink /dev/disk/by-uuid/{identifier}"
        assert await read(JailCommunicator(jail), read_link) == (0, volume.partition)


@pytest.mark.parametrize(
    "command",
    [
        "date -s 2001-01-01 2>&1 | grep -q 'not permitted' && exit 9",
        "insmod /proc/self/exe 2>&1 | grep -q 'not permitted' && exit 9",
        "echo 1 > /proc/sys/kernel/printk_ratelimit",
        "test ! -e /proc/sysrq-trigger && exit 9; echo h > /proc/sysrq-trigger",
        "echo 1 > /sys/kernel/profiling || echo 1 > /sys/power/state",
        "ip link add bakery type dummy",
    ],
)
async def test_what_would_change_the_host_is_refused(communicator: JailCommunicator, command: str) -> None:
    code, said = await read(communicator, command)
    assert code > 0, said


async def test_capabilities_that_reach_the_machine_are_gone_for_good(communicator: JailCommunicator) -> None:
    _, status = await read(communicator, "cat /proc/self/status")
    sets = {line.split(":")[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")}
    for number in (12, 16, 17, 22, 25, 34):
        assert not (sets["CapBnd"] | sets["CapPrm"] | sets["CapInh"] | sets["CapAmb"]) >> number & 1, number
    for kept in (21, 27, 0, 18):  # SYS_ADMIN, MKNOD, CHOWN, SYS_CHROOT
        assert sets["CapEff"] >> kept & 1, kept


async def test_a_reboot_restarts_nothing(communicator: JailCommunicator) -> None:
    before = Path("/proc/sys/kernel/random/boot_id").read_text()
    # -f calls reboot(2); from a PID namespace that would end the jail's first process.
    code, _ = await read(communicator, "busybox reboot -f || /usr/sbin/reboot -f")
    assert code > 0
    assert await read(communicator, "echo there") == (0, "there")
    assert Path("/proc/sys/kernel/random/boot_id").read_text() == before


async def test_the_host_name_is_the_hosts_own(communicator: JailCommunicator) -> None:
    before = socket.gethostname()
    assert await read(communicator, "hostname jailed && hostname") == (0, "jailed")
    assert await read(communicator, "hostname") == (0, "jailed")
    assert socket.gethostname() == before


async def test_programs_see_a_chroot_and_nothing_of_the_host(communicator: JailCommunicator) -> None:
    assert await read(communicator, "ls -A /proc/1/root/ /proc/1/cwd/ /proc/1/fd/") == (
        0,
        "/proc/1/cwd/:\n\n/proc/1/fd/:\n0\n1\n2\n\n/proc/1/root/:",
    )
    _, processes = await read(communicator, "ps -o pid,args | grep -v warden")
    assert str(os.getpid()) not in [line.split()[0] for line in processes.splitlines()]


async def test_commands_of_one_jail_see_each_others_mounts(communicator: JailCommunicator) -> None:
    assert (await read(communicator, "mount -t tmpfs x /mnt && echo kept > /mnt/file"))[0] == 0
    assert await read(communicator, "cat /mnt/file") == (0, "kept")


async def test_unmount_takes_what_provisioners_mounted_too(jail: Jail, volume: Volume) -> None:
    await read(JailCommunicator(jail), "mkdir -p '/mnt/a b' && mount -t tmpfs x '/mnt/a b' && mount -t tmpfs y /opt")
    await jail.unmount(10)
    assert is_free(volume.disk)
    # Until something is mounted there again, nothing can run on the host's own files.
    with pytest.raises(CommunicatorError, match="no root file system"):
        await read(JailCommunicator(jail), "true")


async def test_unmount_names_who_is_in_the_way(jail: Jail) -> None:
    await read(JailCommunicator(jail), "cd /opt; sleep 1234 > /dev/null 2>&1 &")
    await until_running(jail, "sleep 1234")
    with pytest.raises(WaitExpired, match=r"sleep 1234 \(process \d+\)"):
        await jail.unmount(0.2)


async def test_a_daemon_that_was_left_is_named_and_ended(
    jail: Jail, volume: Volume, caplog: pytest.LogCaptureFixture
) -> None:
    communicator = JailCommunicator(jail)
    await read(communicator, "setsid sh -c 'trap \"\" TERM; cd /opt; while :; do sleep 77; done' > /dev/null 2>&1 &")
    await read(communicator, "sleep 88 > /dev/null 2>&1 &")
    await until_running(jail, "sleep 77", "sleep 88")
    with caplog.at_level(logging.WARNING):
        await jail.end_strays(logging.getLogger("build"), grace=0.1)
    assert "sleep 88" in caplog.text
    assert 'trap "" TERM' in caplog.text
    assert await jail.strays() == []
    await jail.unmount(10)
    assert is_free(volume.disk)


async def test_a_jail_without_strays_says_nothing(jail: Jail, caplog: pytest.LogCaptureFixture) -> None:
    await read(JailCommunicator(jail), "true")
    assert await jail.end_strays() == []
    assert caplog.text == ""


async def test_a_file_system_that_cannot_be_mounted_is_an_error_with_mounts_words(
    disk: tuple[str, Path], tmp_path: Path
) -> None:
    async with Jail(tmp_path / "mounted") as jail:
        with pytest.raises(CommunicatorError, match=f"could not mount {disk[0]}.*\n.*mount_partition"):
            await jail.mount_device(disk[0])


async def test_mount_options_reach_mount(volume: Volume, tmp_path: Path) -> None:
    async with Jail(tmp_path / "mounted") as jail:
        await jail.mount_device(volume.partition, ["ro", "noatime"])
        await jail.mount_extra([Mount("proc", "proc", "/proc")])
        _, mounts = await read(JailCommunicator(jail), "cat /proc/mounts")
        assert "ro,noatime" in mounts.splitlines()[0]


async def test_a_bind_shows_a_directory_of_the_host_and_its_mount_point_goes_again(
    volume: Volume, tmp_path: Path
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "file").write_text("of the host")
    async with Jail(tmp_path / "mounted") as jail:
        await jail.mount_device(volume.partition)
        await jail.mount_extra([Mount("bind", str(tmp_path / "shared"), "/var/run/very/new")])
        assert await read(JailCommunicator(jail), "cat /var/run/very/new/file") == (0, "of the host")
        await jail.unmount(10)
        await jail.mount_device(volume.partition)
        assert (await read(JailCommunicator(jail), "test -e /var/run/very"))[0] == 1
    assert (tmp_path / "shared" / "file").exists()


async def test_a_mount_that_is_wrong_is_an_error_with_the_option_to_mend(jail: Jail) -> None:
    with pytest.raises(CommunicatorError, match=r"nonsense.*\n.*chroot_mounts"):
        await jail.mount_extra([Mount("nonsense", "x", "/mnt")])


async def test_jails_side_by_side_may_share_a_mount_path(volume: Volume, tmp_path: Path) -> None:
    async with Jail(tmp_path / "mounted") as one, Jail(tmp_path / "mounted") as other:
        await one.mount_device(volume.partition)
        with pytest.raises(CommunicatorError, match="no root file system"):
            await read(JailCommunicator(other), "true")


async def test_who_leaves_a_shared_mount_path_takes_nothing_from_the_other(volume: Volume, tmp_path: Path) -> None:
    """The kernel takes every namespace's mounts away from a directory that somebody removes."""
    first = Jail(tmp_path / "made" / "mounted")
    await first.start()
    async with Jail(tmp_path / "made" / "mounted") as second:
        await second.mount_device(volume.partition)
        await first.close()
        assert await read(JailCommunicator(second), "test -d /etc && echo there") == (0, "there")
    assert not (tmp_path / "made").exists()


async def test_a_mount_path_of_a_jail_that_died_goes_with_the_next_one(tmp_path: Path) -> None:
    dead = Jail(tmp_path / "made" / "mounted")
    await dead.start()
    os.kill(parent_of(dead.first_process), signal.SIGKILL)
    until(lambda: not Path(f"/proc/{dead.first_process}").exists())
    await dead.close()
    assert (tmp_path / "made" / "mounted").is_dir()
    async with Jail(tmp_path / "made" / "mounted"):
        pass
    assert not (tmp_path / "made").exists()
