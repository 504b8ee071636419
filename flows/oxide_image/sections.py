"""The sections of the `oxide-instance` builder's form."""

from __future__ import annotations

from flows.forms import Section

SECTIONS = (
    Section(
        "artifact", "More about the image", "Description, OS, version; replace one; share with the silo.", range(11, 20)
    ),
    Section("instance", "Instance", "CPUs, memory, disks, user data, keys. As it is: 1 CPU, 2GiB.", range(20, 40)),
    Section("network", "Network", "VPC, subnet, addresses and pools. As it is: those of the project.", range(40, 50)),
    Section("access", "Access without a credentials block", "URL and token, or a profile.", range(50, 60)),
    Section("ssh", "SSH", "How the build logs in. As it is: with a temporary key.", range(100, 140)),
    Section("bastion", "Bastion or proxy", "What stands between the build and its guest.", range(140, 160)),
    Section("endings", "Failure and time", "What becomes of a build that fails, its time-out.", range(800, 1000)),
)
