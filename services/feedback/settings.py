"""What feedback reads from the environment, beside what every service and the model layer read."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from chassis.llm.settings import PROVIDER_NAMES
from chassis.settings import ServiceSettings

NOBODY = "none"


class FeedbackSettings(ServiceSettings):
    """LLM_* and the providers' variables are read by `chassis.llm.settings.LlmSettings`."""

    model_config = SettingsConfigDict(env_prefix="FEEDBACK_")

    critical_threshold: int = Field(default=60, ge=0, le=100)  # a lower score stops what depends on the node
    auto_revise: int = Field(default=1, ge=0, le=10)  # attempts that may follow by themselves before a person is asked
    review_timeout_ms: int = Field(default=3500, ge=1, le=600_000)  # of the reviewing model; then code alone decides
    reviewer: str | None = None  # provider/model, or `none`; unset: another configured model than the author
    review_tokens: int = Field(default=1500, ge=100, le=100_000)  # the most that a reviewing model may write
    concurrency: int = Field(default=16, ge=1, le=1000)  # reviews at once, per process
    lease: float = Field(default=10.0, ge=1, le=300)  # seconds until a review whose worker died is taken over
    retention_feedbacks_days: float = Field(default=730, gt=0, validation_alias="RETENTION_FEEDBACKS_DAYS")

    @field_validator("reviewer")
    @classmethod
    def _names_a_model(cls, value: str | None) -> str | None:
        if value is None or value.strip().lower() in ("", NOBODY):
            return NOBODY if value and value.strip() else None
        provider, _, model = (part.strip() for part in value.partition("/"))
        if provider.lower() not in PROVIDER_NAMES or not model:
            known = ", ".join(PROVIDER_NAMES)
            raise ValueError(f"{value[:80]!r} is no provider/model (like openai/gpt-4o-mini) and not `none`; {known}")
        return f"{provider.lower()}/{model}"
