"""What a failed build leaves on purpose: what it says of it, and the key by which a person reaches it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from uuid import UUID

from pydantic import SecretStr

from blocks.settings import settings
from tasks.mark import LOCAL_SERVER
from tasks.run import Run
from tasks.teardown import Owned


def kept_notice(run: Run, found: Sequence[Owned]) -> str:
    """What is kept, until when, how to look at it, how to go on with it, and how to be rid of it."""
    assert run.mark.keep is not None
    origin = run.lineage.origin
    lines = [f"The build failed. What it made is kept until {run.mark.keep.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC:"]
    lines += [f"  - {resource}" for resource in found]
    if run.when_kept is not None:
        lines.append(f"  Look at it:  {run.when_kept()}")
    go_on = [f"{run.command} --resume {origin}"]
    if run.mark.server != LOCAL_SERVER:
        go_on.insert(0, f"prefect flow-run retry {run.id}")
    lines.append(f"  Go on:       {go_on[0]}")
    lines += [f"  or:          {other}" for other in go_on[1:]]
    lines.append(f"  Remove it:   {run.command} --clean-up {origin}")
    return "\n".join(lines)


def key_file(run: UUID) -> Path:
    """Where the temporary key of a kept build is, on the host that built."""
    return settings().state_dir.expanduser() / "kept" / f"{run}.key"


def write_key(run: UUID, private_key: SecretStr) -> Path:
    """Write the temporary key for a person who wants to look at a kept build; its mode is 0600."""
    path = key_file(run)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(private_key.get_secret_value(), encoding="ascii")
    return path


def forget_key(run: UUID) -> None:
    """Remove the key of a build that is kept no longer."""
    key_file(run).unlink(missing_ok=True)
