"""The environment of the model layer: which providers there are, how to reach them, how long to wait."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from chassis.settings import EnvironmentSettings
from contracts.plan import ModelRef

OPENAI_URL = "https://api.openai.com/v1"
ANTHROPIC_URL = "https://api.anthropic.com"

ProviderName = Literal["demo", "openai", "ollama", "anthropic"]
PROVIDER_NAMES: tuple[str, ...] = get_args(ProviderName)


class Price(BaseModel):
    """US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Decimal = Field(ge=0)
    output: Decimal = Field(ge=0)


class LlmSettings(EnvironmentSettings):
    """With nothing set the provider is `demo`. Each variable is the field's name in capitals."""

    model_config = SettingsConfigDict(hide_input_in_errors=True)

    llm_default_provider: ProviderName = "demo"
    llm_default_model: str | None = None  # of the default provider; each provider has a default of its own
    openai_base_url: str = OPENAI_URL  # any OpenAI-compatible endpoint
    openai_api_key: SecretStr | None = None
    openai_structured_output: Literal["tool", "json_schema"] = "tool"
    ollama_base_url: str = "http://127.0.0.1:11434/v1"
    anthropic_base_url: str = ANTHROPIC_URL
    anthropic_api_key: SecretStr | None = None
    llm_connect_timeout_s: float = Field(default=5, gt=0)
    llm_first_token_timeout_s: float = Field(default=30, gt=0)
    llm_idle_timeout_s: float = Field(default=20, gt=0)
    llm_max_output_tokens: int = Field(default=4096, ge=1)
    llm_prices: dict[str, Price] = Field(default_factory=dict)  # JSON, by "model" or "provider/model"
    llm_fallbacks: tuple[ModelRef, ...] = ()  # "provider:model, …" in order, for nodes whose assignment names none
    llm_demo_token_delay_ms: float = Field(default=2, ge=0, le=1000)

    @field_validator("llm_default_provider", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("llm_prices", mode="before")
    @classmethod
    def _json(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError as error:
            example = '{"llama3.1:8b": {"input": 0.1, "output": 0.2}}'
            raise ValueError(f"must be JSON like {example} (USD per million tokens): {error}") from error

    @field_validator("llm_fallbacks", mode="before")
    @classmethod
    def _refs(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return [_ref(item.strip()) for item in value.split(",") if item.strip()]

    @field_validator("openai_base_url", "ollama_base_url", "anthropic_base_url")
    @classmethod
    def _http_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be a URL like http://127.0.0.1:11434/v1")
        return value.rstrip("/")


def _ref(text: str) -> dict[str, str]:
    provider, _, model = (part.strip() for part in text.partition(":"))
    if provider.lower() not in PROVIDER_NAMES or not model:
        known = ", ".join(PROVIDER_NAMES)
        raise ValueError(f"{text[:80]!r} is no provider:model (like openai:gpt-4o-mini); providers are {known}")
    return {"provider": provider.lower(), "model": model}


def revealed(secret: SecretStr | None) -> str | None:
    """The secret's text; None when it is unset or blank."""
    return (secret.get_secret_value().strip() or None) if secret is not None else None


def without_credentials(url: str) -> str:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
