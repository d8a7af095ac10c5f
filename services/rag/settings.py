"""What rag reads from the environment, beside what every service reads."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from chassis.settings import ServiceSettings

OPENAI_URL = "https://api.openai.com/v1"
OLLAMA_URL = "http://127.0.0.1:11434/v1"


class RagSettings(ServiceSettings):
    """Sizes in bytes, times in seconds unless they say otherwise."""

    model_config = SettingsConfigDict(env_prefix="RAG_")

    exact: int = Field(default=20_000, ge=0)  # chunks in scope up to which every vector is compared
    graph_from: int = Field(default=50_000, ge=1_000)  # chunks of a partition from which it has a graph (HNSW)
    questions: int = Field(default=2_000, ge=0)  # vectors of questions that are kept in memory
    lease: float = Field(default=10.0, ge=1, le=300)  # until work whose worker died is taken over
    unused_after: float = Field(default=60.0, ge=0)  # bytes that nothing names any more are deleted
    concurrency: int = Field(default=16, ge=1, le=100)  # documents made searchable at once, per process
    threads: int = Field(
        default_factory=lambda: max(1, (os.cpu_count() or 2) - 1), ge=1, le=256
    )  # that embed documents
    home: Path = Field(default=Path(".fluidcrew"), validation_alias="FLUIDCREW_HOME")  # the model is kept in `models`
    openai_base_url: str = Field(default=OPENAI_URL, validation_alias="OPENAI_BASE_URL")
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    ollama_base_url: str = Field(default=OLLAMA_URL, validation_alias="OLLAMA_BASE_URL")
    retention_retrievals_days: float = Field(default=90, gt=0, validation_alias="RETENTION_RETRIEVALS_DAYS")
