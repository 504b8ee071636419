"""The environment of what a build starts on its own host: this process's, without its secrets."""

from __future__ import annotations

import os

from tasks.masking import masked

_OURS = ("PREFECT_", "OXIDE_", "OSC_", "OUTSCALE_", "IMAGE_BAKERY_")
"""How the names of variables begin that hold credentials of Prefect and of the clouds, or settings of ours."""


def local_environment() -> dict[str, str]:
    """PATH, HOME, proxies and what else there is, but no credentials of ours and nothing that holds a known secret."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS) and masked(value) == value}
