"""Packages from the machine's own apt sources, downloaded and unpacked, never installed."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable
from pathlib import Path

from emulators.guests.run import BuildError, run

_DEPENDS = re.compile(r"^ [ |](?:Pre)?Depends: (\S+)$", re.MULTILINE)


def distribution() -> tuple[str, str, str]:
    """This machine's distribution: id, version and code name, such as `("debian", "12", "bookworm")`.

    Raises:
        BuildError: it is neither Debian nor Ubuntu.
    """
    release = platform.freedesktop_os_release()
    if release["ID"] not in ("debian", "ubuntu"):
        raise BuildError(f"guests are built from Debian or Ubuntu packages; this machine runs {release['ID']}")
    if "VERSION_ID" not in release or "VERSION_CODENAME" not in release:
        raise BuildError("guests are built from a released Debian or Ubuntu; /etc/os-release names no version")
    return release["ID"], release["VERSION_ID"], release["VERSION_CODENAME"]


def kernel_package() -> str:
    """The metapackage whose dependency is the current kernel for virtual machines."""
    return "linux-image-virtual" if distribution()[0] == "ubuntu" else "linux-image-cloud-amd64"


def depends(packages: Iterable[str]) -> list[str]:
    """Names that the packages depend on directly, without virtual packages and foreign architectures."""
    names = sorted(packages)
    if not names:
        return []
    output = run(["apt-cache", "depends", "--no-recommends", "--no-suggests", *names]).decode()
    found = {name for name in _DEPENDS.findall(output) if not name.startswith("<") and ":" not in name}
    return sorted(found)


def with_libraries(packages: Iterable[str]) -> list[str]:
    """The packages and, transitively, the libraries they depend on (by name: `lib…` and `zlib…`)."""
    found: set[str] = set()
    new = set(packages)
    while new:
        found |= new
        new = {name for name in depends(new) if name.startswith(("lib", "zlib"))} - found
    return sorted(found)


def kernel_packages() -> list[str]:
    """The packages that hold the kernel itself and its modules."""
    wanted = ("linux-image-", "linux-modules-")
    found: set[str] = set()
    new = {kernel_package()}
    while new:
        found |= new
        new = {name for name in depends(new) if name.startswith(wanted)} - found
    return sorted(name for name in found if re.search(r"-\d", name))


def download(packages: Iterable[str], directory: Path) -> list[Path]:
    """Download packages into a directory (checked against the machine's apt keys) and return their files."""
    directory.mkdir(parents=True, exist_ok=True)
    # apt's own unprivileged user cannot write to a private directory.
    run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *packages], cwd=directory)
    return sorted(directory.glob("*.deb"))


def unpack(files: Iterable[Path], directory: Path) -> None:
    """Unpack packages over each other into a directory, without running their scripts."""
    directory.mkdir(parents=True, exist_ok=True)
    for file in files:
        run(["dpkg-deb", "--extract", file, directory])


def sources() -> str:
    """The machine's own sources of the distribution itself, as lines of a `sources.list`; no third parties."""
    names = ("REPO_URI", "RELEASE", "COMPONENT", "ORIGIN", "SIGNED_BY")
    pattern = "|".join(f"$({name})" for name in names)
    output = run(["apt-get", "indextargets", "--format", pattern, "Created-By: Packages"]).decode()
    origins = {"debian": "Debian", "ubuntu": "Ubuntu"}
    lines: dict[str, None] = {}
    for line in output.splitlines():
        uri, release, component, origin, key = line.split("|", 4)
        if origin == origins[distribution()[0]]:
            # A key that is no file is written into the sources themselves; the default keyring has it, too.
            option = f" [signed-by={key}]" if key.startswith("/") else ""
            lines[f"deb{option} {uri} {release} {component}"] = None
    if not lines:
        raise BuildError("apt knows no packages of this distribution; run `apt-get update` first")
    return "".join(f"{line}\n" for line in lines)
