"""What a machine can be told to do wrong, or slowly. Keys are those of `MachineSpec.behaviour`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class Behaviour(BaseModel):
    """One machine's behaviour from one power-on to the next. Times are in seconds.

    Cheap machines heed all of it, virtual machines `never_boots` and `dies_after_seconds`.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    boot_seconds: Seconds = 0
    """From power-on until SSH listens, to a few hundredths. A cheap machine needs some tenths at least."""
    never_boots: bool = False
    """It runs, and its guest never comes up."""
    dies_after_seconds: Seconds = 0
    """It crashes so long after power-on; 0: never."""
    shutdown_seconds: Seconds = 0
    """How long the guest takes to shut down."""
    refuses_auth: bool = False
    """The guest has forgotten its keys."""
    ssh_down: bool = False
    """The guest is up and nobody listens: connections are refused."""
    new_host_keys: bool = False
    """The SSH server has other host keys after each boot."""
    ssh_banner_delay: Seconds = 0
    """Until each connection is greeted."""
    ssh_refuses: Count = 0
    """How many connections are closed before they are greeted."""
    ssh_drop_after: Seconds | None = None
    """After how long a connection is cut off, in whatever it does."""
    ssh_drops: Count | None = None
    """How many connections are cut off; null: every one."""
    ssh_impostor_from: Count | None = None
    """From this connection on (the first is 0) a server with another host key answers."""

    @property
    def needs_gate(self) -> bool:
        """Whether connections have to pass something that can meddle with them."""
        meddles = self.ssh_drop_after is not None or self.ssh_impostor_from is not None
        return meddles or bool(self.ssh_banner_delay or self.ssh_refuses)

    @classmethod
    def read(cls, told: dict[str, object]) -> Behaviour:
        """Read a spec's behaviour.

        Raises:
            OSError: a key that no machine has, or a wrong value. It is what a machine that cannot start raises.
        """
        try:
            return cls.model_validate(told)
        except ValidationError as error:
            raise OSError(f"a machine's behaviour is not understood: {error}") from None
