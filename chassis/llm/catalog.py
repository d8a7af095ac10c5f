"""The table of providers: which exist, their default models, whether they are configured, and how each is built."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel

from chassis.llm.call import ModelChoice, ModelFailure
from chassis.llm.provider import Provider
from chassis.llm.settings import ANTHROPIC_URL, OPENAI_URL, LlmSettings, revealed, without_credentials


@dataclass(frozen=True, slots=True)
class Entry:
    """`endpoint` names the setting with the base URL, `missing` says what is not configured (empty: nothing)."""

    default_model: str
    endpoint: str | None
    missing: Callable[[LlmSettings], str]
    build: Callable[[LlmSettings], Provider]
    note: str | None = None


def _nothing(_: LlmSettings) -> str:
    return ""


def _openai_key(settings: LlmSettings) -> str:
    if revealed(settings.openai_api_key) or settings.openai_base_url != OPENAI_URL:
        return ""  # a server of one's own may want no key
    return "set OPENAI_API_KEY (or OPENAI_API_KEY_FILE), or OPENAI_BASE_URL for a server of your own"


def _anthropic_key(settings: LlmSettings) -> str:
    if revealed(settings.anthropic_api_key) or settings.anthropic_base_url != ANTHROPIC_URL:
        return ""
    return "set ANTHROPIC_API_KEY (or ANTHROPIC_API_KEY_FILE)"


# The adapters are imported when they are built: pydantic_ai and an SDK take seconds.
def _demo(settings: LlmSettings) -> Provider:
    from chassis.llm.demo.provider import DemoProvider

    return DemoProvider(settings)


def _openai(settings: LlmSettings) -> Provider:
    from chassis.llm import remote

    return remote.openai(settings)


def _ollama(settings: LlmSettings) -> Provider:
    from chassis.llm import remote

    return remote.ollama(settings)


def _anthropic(settings: LlmSettings) -> Provider:
    from chassis.llm import remote

    return remote.anthropic(settings)


PROVIDERS: dict[str, Entry] = {
    "demo": Entry("demo-1", None, _nothing, _demo, note="simulated, offline, costs nothing"),
    "openai": Entry("gpt-4o-mini", "openai_base_url", _openai_key, _openai),
    "ollama": Entry("llama3.1:8b", "ollama_base_url", _nothing, _ollama),
    "anthropic": Entry("claude-haiku-4-5", "anthropic_base_url", _anthropic_key, _anthropic),
}


class ProviderDescription(BaseModel):
    name: str
    configured: bool
    default: bool
    base_url: str | None
    models: list[str]
    note: str | None


class LlmDescription(BaseModel):
    default_provider: str
    default_model: str
    providers: list[ProviderDescription]


def entry(name: str) -> Entry:
    if name not in PROVIDERS:
        known = ", ".join(sorted(PROVIDERS))
        raise ModelFailure("unknown_provider", f"there is no provider {name[:80]!r}; use one of {known}")
    return PROVIDERS[name]


def choose(settings: LlmSettings, provider: str | None, model: str | None) -> ModelChoice:
    name = (provider or "").strip().lower() or settings.llm_default_provider
    default = entry(name).default_model
    if name == settings.llm_default_provider and settings.llm_default_model:
        default = settings.llm_default_model
    return ModelChoice(name, (model or "").strip() or default)


def describe(settings: LlmSettings) -> LlmDescription:
    default = choose(settings, None, None)
    return LlmDescription(
        default_provider=default.provider,
        default_model=default.model,
        providers=[_described(name, settings, default.provider) for name in PROVIDERS],
    )


def _described(name: str, settings: LlmSettings, default: str) -> ProviderDescription:
    found = PROVIDERS[name]
    missing = found.missing(settings)
    return ProviderDescription(
        name=name,
        configured=not missing,
        default=name == default,
        base_url=without_credentials(getattr(settings, found.endpoint)) if found.endpoint else None,
        models=[choose(settings, name, None).model],
        note=missing or found.note,
    )


class Providers:
    """The providers in use, each built once, when first asked for, in a thread: imports would stop the event loop."""

    def __init__(self, settings: LlmSettings) -> None:
        self._settings = settings
        self._built: dict[str, Provider] = {}
        self._building = asyncio.Lock()

    async def get(self, name: str) -> Provider:
        if name not in self._built:
            found = entry(name)
            if missing := found.missing(self._settings):
                hint = f"{name} is not configured: {missing}; LLM_DEFAULT_PROVIDER=demo needs nothing"
                raise ModelFailure("not_configured", hint)
            async with self._building:
                if name not in self._built:
                    self._built[name] = await asyncio.to_thread(found.build, self._settings)
        return self._built[name]

    async def aclose(self) -> None:
        built, self._built = self._built, {}
        await asyncio.gather(*(provider.aclose() for provider in built.values()))
