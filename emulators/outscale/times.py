"""How long the cloud takes."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Times(BaseModel):
    """Seconds from a request to what it asked for, by kind of work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    volume: float = Field(default=0.0, ge=0, description="until a volume is available")
    link: float = Field(default=0.0, ge=0, description="until a volume is linked")
    unlink: float = Field(default=0.0, ge=0, description="until a volume is unlinked, once its device is free")
    delete: float = Field(default=0.0, ge=0, description="until a volume that is being deleted is gone")
    snapshot: float = Field(default=0.0, ge=0, description="until a snapshot is completed")
    image: float = Field(default=0.0, ge=0, description="until an OMI is available")
