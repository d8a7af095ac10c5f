"""Choosing and describing models, their settings, spans, and what importing the layer costs."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis.llm.call import ModelChoice, ModelFailure, Usage
from chassis.llm.models import Models
from chassis.llm.prices import cost_of
from chassis.llm.settings import OPENAI_URL, LlmSettings, Price
from chassis.settings import BadSettings
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from tests.llm.given import DEMO, HELLO, OPENAI

ROOT = Path(__file__).parents[2]
VARIABLES = ("LLM_DEFAULT_PROVIDER", "LLM_DEFAULT_MODEL", "OPENAI_API_KEY", "OPENAI_BASE_URL", "OLLAMA_BASE_URL")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_with_nothing_configured_the_provider_is_demo() -> None:
    assert Models(LlmSettings()).choose(None, None) == DEMO


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ((None, None), ModelChoice("ollama", "qwen3:8b")),
        ((None, "llama3.1:8b"), ModelChoice("ollama", "llama3.1:8b")),
        (("openai", None), ModelChoice("openai", "gpt-4o-mini")),
        (("OpenAI ", "gpt-4o"), ModelChoice("openai", "gpt-4o")),
        (("", " "), ModelChoice("ollama", "qwen3:8b")),
    ],
)
def test_what_is_left_out_comes_from_the_defaults_of_that_provider(
    asked: tuple[str | None, str | None], chosen: ModelChoice
) -> None:
    models = Models(LlmSettings(llm_default_provider="ollama", llm_default_model="qwen3:8b"))
    assert models.choose(*asked) == chosen


@pytest.mark.parametrize(("provider", "model"), [("ollama", "llama3.1:8b"), ("openai", "gpt-4o-mini")])
def test_the_presets_of_the_predecessor_work(monkeypatch: pytest.MonkeyPatch, provider: str, model: str) -> None:
    monkeypatch.setenv("LLM_DEFAULT_PROVIDER", provider)
    monkeypatch.setenv("LLM_DEFAULT_MODEL", model)
    assert Models(LlmSettings.load()).choose(None, None) == ModelChoice(provider, model)


def test_an_unknown_provider_is_named_with_those_that_exist() -> None:
    with pytest.raises(ModelFailure, match=r"'gemini'; use one of anthropic, demo, ollama, openai") as caught:
        Models(LlmSettings()).choose("gemini", None)
    assert caught.value.kind == "unknown_provider"
    assert not caught.value.retriable


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LLM_DEFAULT_PROVIDER", "gemini"),
        ("OPENAI_BASE_URL", "api.openai.com"),
        ("LLM_IDLE_TIMEOUT_S", "0"),
        ("LLM_PRICES", "{not json"),
        ("LLM_PRICES", '{"m": {"input": -1, "output": 0}}'),
    ],
)
def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=name):
        LlmSettings.load()


async def test_a_provider_without_a_key_says_which_variable_to_set() -> None:
    with pytest.raises(ModelFailure, match="OPENAI_API_KEY") as caught:
        await Models(LlmSettings()).complete(OPENAI, HELLO, timeout=60)
    assert caught.value.kind == "not_configured"
    assert caught.value.record is not None, "a sidecar can be written for it"


def test_a_key_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text("sk-from-file\n")
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(file))
    settings = LlmSettings.load()
    assert settings.openai_api_key is not None
    assert settings.openai_api_key.get_secret_value() == "sk-from-file"


def test_the_description_names_providers_without_secrets() -> None:
    settings = LlmSettings(
        llm_default_provider="openai",
        openai_api_key="sk-secret",
        openai_base_url="https://user:pass@llm.example.org:8443/v1?token=abc",
    )
    described = Models(settings).describe()
    assert (described.default_provider, described.default_model) == ("openai", "gpt-4o-mini")
    by_name = {p.name: p for p in described.providers}
    assert set(by_name) == {"demo", "openai", "ollama", "anthropic"}
    assert by_name["openai"].base_url == "https://llm.example.org:8443/v1"
    assert by_name["openai"].configured
    assert by_name["openai"].default
    assert not by_name["anthropic"].configured
    assert "ANTHROPIC_API_KEY" in (by_name["anthropic"].note or "")
    for secret in ("sk-secret", "pass", "abc"):
        assert secret not in described.model_dump_json()
        assert secret == "abc" or secret not in repr(settings).replace("user:pass@", "")


async def test_the_price_of_a_model_elsewhere_is_unknown_not_free(models: Models) -> None:
    done = await models.complete(OPENAI, HELLO, timeout=60)
    assert done.cost.amount is None
    assert "LLM_PRICES" in done.cost.note


def test_prices_are_published_ones_or_our_own() -> None:
    usage = Usage(1_000_000, 1_000_000)
    assert cost_of("openai", OPENAI_URL, "gpt-4o-mini", usage, {}).amount == Decimal("0.75")
    assert cost_of("openai", OPENAI_URL, "gpt-4o-mini-2024-07-18", usage, {}).amount == Decimal("0.75")
    assert cost_of("openai", OPENAI_URL, "no-such-model", usage, {}).amount is None
    anthropic = cost_of("anthropic", "https://api.anthropic.com", "claude-haiku-4-5", usage, {})
    assert anthropic.amount is not None
    assert anthropic.amount > 0
    own = {"ollama/llama3.1:8b": Price(input=Decimal("0.1"), output=Decimal("0.2"))}
    assert cost_of("ollama", "http://127.0.0.1:11434/v1", "llama3.1:8b", usage, own).amount == Decimal("0.3")


def test_cached_tokens_cost_less() -> None:
    full = cost_of("openai", OPENAI_URL, "gpt-4o-mini", Usage(1000, 0), {}).amount
    cached = cost_of("openai", OPENAI_URL, "gpt-4o-mini", Usage(1000, 0, cached_tokens=800), {}).amount
    assert full is not None
    assert cached is not None
    assert cached < full


async def test_a_call_is_a_span_without_a_word_of_the_prompt(
    models: Models, fake_openai: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = InMemorySpanExporter()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(seen))
    monkeypatch.setattr(trace, "get_tracer", tracing.get_tracer)
    await models.complete(OPENAI, HELLO, timeout=60)
    fake_openai.script(Behaviour(status=500, message="Say hello is broken"))
    with pytest.raises(ModelFailure):
        await models.complete(OPENAI, HELLO, timeout=60)
    good, bad = seen.get_finished_spans()
    assert good.name == "chat gpt-4o-mini"
    assert good.attributes is not None
    assert good.attributes["gen_ai.provider.name"] == "openai"
    assert int(str(good.attributes["gen_ai.usage.input_tokens"])) > 0
    assert bad.attributes is not None
    assert bad.attributes["error.type"] == "server_error"
    assert not bad.status.is_ok
    assert "hello" not in (good.to_json() + bad.to_json()).lower()


def test_the_demo_provider_loads_no_sdk() -> None:
    script = """
import asyncio, sys
from chassis.llm.call import ModelChoice, Prompt
from chassis.llm.models import Models
from chassis.llm.settings import LlmSettings
models = Models(LlmSettings(llm_demo_token_delay_ms=0))
asyncio.run(models.complete(models.choose(None, None), Prompt("", "Title: x"), timeout=60))
heavy = {"pydantic_ai", "openai", "anthropic", "httpx", "httpx2", "genai_prices"} & set(sys.modules)
sys.exit(f"loaded {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
