"""The executor's environment."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import ServiceSettings


class ExecutorSettings(ServiceSettings):
    """Times in seconds. LLM_* and the providers' variables are read by `chassis.llm.settings.LlmSettings`."""

    model_config = SettingsConfigDict(env_prefix="EXECUTOR_", extra="ignore", populate_by_name=True, frozen=True)

    concurrency: int = Field(default=16, ge=1, le=1000)  # model calls at once
    most_runs: int = Field(default=256, ge=1, le=10_000)  # runs owned at once
    node_timeout_s: float = Field(default=300, gt=0, le=86_400)
    lease_s: float = Field(default=10, ge=0.5, le=300)
    poll_s: float = Field(default=1, ge=0.02, le=60)
    quiet_s: float = Field(default=30, ge=0, le=3600)
    drain_s: float = Field(default=5, ge=0, le=600)
