"""The executor's environment."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import ServiceSettings
from contracts.plan import Gate
from contracts.review import OverduePolicy


class ExecutorSettings(ServiceSettings):
    """Times in seconds. LLM_* and the providers' variables are read by `chassis.llm.settings.LlmSettings`."""

    model_config = SettingsConfigDict(env_prefix="EXECUTOR_", extra="ignore", populate_by_name=True, frozen=True)

    concurrency: int = Field(default=16, ge=1, le=1000)  # model calls at once
    most_runs: int = Field(default=256, ge=1, le=10_000)  # runs owned at once
    node_timeout_s: float = Field(default=300, gt=0, le=86_400)
    tools: str = "all"  # that agents are offered: all, none, or names by comma
    tool_rounds: int = Field(default=8, ge=0, le=100)  # how often an attempt may go back to its model with results
    weather_probe_s: float = Field(default=10, gt=0, le=3600)  # between looks whether a provider that is out is back
    weather_first_rest_s: float = Field(default=1, gt=0, le=3600)  # when it says "too many" and not until when; doubles
    weather_longest_rest_s: float = Field(default=15, gt=0, le=3600)
    weather_outage_s: float = Field(default=3600, gt=0, le=30 * 86_400)  # what is out for longer fails nodes in the end
    lease_s: float = Field(default=10, ge=0.5, le=300)
    poll_s: float = Field(default=1, ge=0.02, le=60)
    quiet_s: float = Field(default=30, ge=0, le=3600)
    drain_s: float = Field(default=5, ge=0, le=600)
    reconcile_s: float = Field(default=5, ge=0.02, le=3600)
    stall_seconds: float = Field(default=900, gt=0, le=86_400)  # a run in which nothing moves for so long is told of
    default_gate: Gate = Gate.GATE  # of runs that are started without one
    review_deadline_s: float = Field(
        default=900, ge=0, le=2_592_000
    )  # that a result waits for its verdict; 0: for ever
    review_overdue: OverduePolicy = OverduePolicy.CLOSED  # then it waits for a person; open: it counts
    retention_runs_days: float = Field(default=90, gt=0, validation_alias="RETENTION_RUNS_DAYS")
