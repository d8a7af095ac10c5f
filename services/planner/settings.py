"""What the planner reads from the environment, beside what every service and the model layer read."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis.settings import ServiceSettings


class PlannerSettings(ServiceSettings):
    """Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="PLANNER_")

    task_files_dir: Path | None = None  # where `task_file` may point; unset: task files are refused
    draft_timeout: float = Field(default=50.0, gt=0, le=600)  # of one model call of the supervisor
    draft_wait: float = Field(default=60.0, gt=0, le=60)  # how long POST /tasks/{id}/plan waits for the plan
    launch_wait: float = Field(default=50.0, gt=0, le=60)  # how long a launch waits for its run to exist
    draft_concurrency: int = Field(default=4, ge=1, le=64)
    draft_lease: float = Field(default=15.0, ge=1, le=300)  # until a draft whose worker died is taken over
    draft_attempts: int = Field(default=6, ge=1, le=100)  # until an unreachable provider fails the draft
    control_wait: float = Field(default=3.0, ge=0, le=8)  # how long an order to a task waits for its run to hear of it
    reconcile_s: float = Field(default=60.0, gt=0, le=3600)  # between looks, and of silence until a run is asked about
