"""A system that has been one machine for a while."""

from __future__ import annotations

FILES = {
    "package_caches": (
        *("/var/cache/apt/archives/a.deb", "/var/cache/apt/pkgcache.bin", "/var/lib/apt/lists/x_Packages"),
        *(
            "/var/cache/dnf/repo/a.solv",
            "/var/cache/yum/x",
            "/var/cache/zypp/packages/a.rpm",
            "/var/cache/apk/A.tar.gz",
        ),
        "/var/cache/pacman/pkg/a.zst",
    ),
    "shell_history": ("/root/.bash_history", "/root/.ash_history", "/home/baker/.python_history", "/root/.viminfo"),
    "random_seed": ("/var/lib/systemd/random-seed", "/var/lib/urandom/random-seed", "/boot/loader/random-seed"),
    "dhcp_leases": (
        *("/var/lib/dhcp/dhclient.eth0.leases", "/var/lib/NetworkManager/internal-1-eth0.lease"),
        "/var/lib/NetworkManager/secret_key",
    ),
    "temporary_files": (
        *("/tmp/a file", "/tmp/.hidden", "/tmp/deep/down/here", "/var/tmp/b", "/root/.ansible/tmp/left/AnsiballZ.py"),
    ),
    "logs": (
        *("/var/log/syslog.1", "/var/log/syslog.2.gz", "/var/log/messages-20260101", "/var/crash/core"),
        *("/var/log/journal/0123/system.journal", "/var/lib/systemd/coredump/c"),
    ),
}
"""By option: files that it removes."""

KEPT = (
    *("/var/cache/apt/archives/lock", "/var/lib/apt/lists/lock", "/tmp/systemd-private-1/tmp/in-use", "/etc/hostname"),
    *("/var/lib/NetworkManager/NetworkManager.state", "/home/baker/.profile"),
)
EMPTIED = "/var/log/mail/of day/x.log"


def soiled() -> str:
    """A script that makes all that."""
    paths = [path for files in FILES.values() for path in files] + [EMPTIED, *KEPT]
    return "set -e\n" + "".join(f"mkdir -p '{path.rpartition('/')[0]}'\necho some text >> '{path}'\n" for path in paths)
