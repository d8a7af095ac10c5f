"""What publisher reads from the environment, beside what every service reads."""

from __future__ import annotations

import re
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from chassis.settings import ServiceSettings
from contracts.artifacts import Visibility

DEFAULT_FRAMES = "http://localhost:3000,http://localhost:5173"
#: a name, not the number of a machine: nothing can lie below that
LABEL = r"[a-z0-9-]{1,63}"
ORIGIN = re.compile(rf"https?://(?=[^:]*[a-z])(?!-){LABEL}(\.{LABEL})*(:(?P<port>[0-9]{{1,5}}))?", re.IGNORECASE)


class PublisherSettings(ServiceSettings):
    """Sizes in bytes, times in seconds unless they say otherwise."""

    model_config = SettingsConfigDict(env_prefix="PUBLISHER_")

    preview_host: str = Field(default="127.0.0.1", validation_alias="PREVIEW_HOST")  # where previews are served
    preview_port: int = Field(default=8001, ge=0, le=65535, validation_alias="PREVIEW_PORT")
    preview_url: str | None = Field(default=None, validation_alias="PREVIEW_URL")  # how browsers reach that port
    preview_frames: str = Field(default=DEFAULT_FRAMES, validation_alias="PREVIEW_FRAMES")  # origins that may embed it
    preview_visibility: Visibility = Field(default=Visibility.PUBLIC, validation_alias="PREVIEW_VISIBILITY")
    keep: int = Field(default=10, ge=1, le=10_000)  # versions per task, beside those that are pinned or shared
    concurrency: int = Field(default=8, ge=1, le=1000)  # collections of an attempt's results at once, per process
    publishing: int = Field(default=2, ge=1, le=32)  # archives unpacked at once, per process
    lease: float = Field(default=10.0, ge=1, le=300)  # until work whose worker died is taken over
    cache: int = Field(default=64 * 2**20, ge=0)  # of what is served, kept in memory
    unused_after: float = Field(default=86_400.0, ge=0)  # bytes that nothing names any more are deleted
    retention_staged_days: float = Field(default=8, gt=0, validation_alias="RETENTION_STAGED_DAYS")

    @field_validator("preview_url")
    @classmethod
    def _is_an_origin(cls, value: str | None) -> str | None:
        if value is None or not value.strip():
            return None
        origin = value.strip().rstrip("/")
        found = ORIGIN.fullmatch(origin)
        if found is None or int(found["port"] or 0) > 65_535:
            raise ValueError(
                f"{value[:80]!r} is no origin of a name; give one like https://previews.example.com, under which each"
                " preview has a host of its own"
            )
        return origin

    @model_validator(mode="after")
    def _leaves_time_to_name_bytes(self) -> Self:
        if self.unused_after < 3600 and self.env != "test":
            raise ValueError("PUBLISHER_UNUSED_AFTER: give at least 3600 s; what is being published is not named yet")
        return self

    @property
    def frames(self) -> tuple[str, ...]:
        return tuple(origin for part in self.preview_frames.split(",") if (origin := part.strip().rstrip("/")))

    def origin(self, port: int) -> str:
        """Of all previews, each of which has a host below it. `port` is the one that was bound."""
        return self.preview_url or f"http://localhost:{port}"
