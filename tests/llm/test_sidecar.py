"""Sidecars: what we write is valid in the strict form, and the model and the JSON Schema of the format agree."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.llm.call import Cost, ModelChoice, ModelFailure, Prompt
from chassis.llm.models import Models
from chassis.llm.settings import LlmSettings
from chassis.llm.sidecar import INVALID, sidecar_for, truncated
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from contracts.older_sidecar import normalised
from contracts.sidecar import MAX_PROMPT, check, json_schema
from tests.contracts.sidecar_example import EXAMPLE
from tests.llm.given import DEMO, HELLO, OPENAI

SCHEMA = jsonschema_rs.Draft202012Validator(json_schema(), validate_formats=True)
CHAT = [{"role": "user", "content": "Bonjour"}]


def changed(path: str, value: object) -> dict[str, Any]:
    document = copy.deepcopy(EXAMPLE)
    *parents, last = path.split(".")
    place = document
    for parent in parents:
        place = place[parent]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return document


def written(call: Any, prompt: Prompt = HELLO, **more: Any) -> dict[str, Any]:
    document = sidecar_for(call, prompt, run_id=uuid4(), node_id=uuid4(), **more)
    as_read: dict[str, Any] = json.loads(json.dumps(document))
    assert check(as_read, strict=True).errors == []
    assert SCHEMA.is_valid(as_read)
    return as_read


@pytest.mark.parametrize(
    "document",
    [
        EXAMPLE,
        changed("prompts.user", CHAT),
        changed("prompts.user", "é" * 800),
        changed("timestamps.ended_at", "2024-05-21T12:00:01.123456789+02:00"),
        changed("cost.estimated", 0),
        changed("latency_ms", 1200.0),
        changed("retry", {"index": 0}),
        changed("tooling", [{"name": "search"}]),
        changed("errors", [{"code": "timeout", "message": "too slow", "retriable": True}]),
        changed("version", "1.1") | {"added_in_1_1": {"x": 1}},
    ],
)
def test_model_and_schema_accept(document: dict[str, Any]) -> None:
    assert check(document).errors == []
    assert SCHEMA.is_valid(document)


@pytest.mark.parametrize(
    "document",
    [
        changed("version", "2.0"),
        changed("version", "1.01"),
        changed("version", "1.1\n"),
        changed("version", "1"),
        changed("version", None),
        changed("provider", "demo"),
        changed("model", None),
        changed("latency_ms", -1),
        changed("latency_ms", 12.5),
        changed("latency_ms", "12"),
        changed("usage.prompt_tokens", True),
        changed("usage.completion_tokens", None),
        changed("cost.estimated", -0.1),
        changed("prompts.system", "x" * 801),
        changed("prompts.user", "x" * 801),
        changed("prompts.user", [{"role": "user"}]),
        changed("timestamps.started_at", "2024-05-21T10:00:00"),
        changed("timestamps.started_at", "2024-13-41T10:00:00Z"),
        changed("timestamps.started_at", 1716285600),
        changed("run_id", "123e4567-e89b-12d3-a456-426614174000"),
        changed("node_id", "n1"),
        changed("retry", {"index": -1}),
        changed("tooling", [{"version": "1"}]),
        changed("warnings", "late"),
        changed("errors", [{"code": "timeout"}]),
    ],
)
def test_model_and_schema_refuse(document: dict[str, Any]) -> None:
    assert check(document).errors
    assert not SCHEMA.is_valid(document)


def test_strict_refuses_what_is_otherwise_tolerated() -> None:
    newer = changed("version", "1.1") | {"added_in_1_1": {"x": 1}}
    other = changed("model_used", "gpt-4o-2")
    for document, name in ((changed("raw", {}), "raw"), (other, "model_used"), (newer, "1.1 is newer than 1.0")):
        assert check(document).errors == []
        assert any(name in warning for warning in check(document).warnings)
        assert any(name in error for error in check(document, strict=True).errors)


def test_unknown_fields_are_warnings_at_any_depth() -> None:
    document = changed("usage.reasoning_tokens", 3) | {"colour": "red", "tooling": [{"name": "a", "speed": 1}]}
    warnings = check(document, strict=True).warnings
    places = ("$.colour", "$.usage.reasoning_tokens", "$.tooling[0].speed")
    assert set(warnings) == {f"{place}: unknown field" for place in places}


@pytest.mark.parametrize(
    ("document", "error"),
    [
        (changed("usage.prompt_tokens", "10"), "$.usage.prompt_tokens: Input should be a valid integer"),
        (changed("usage.completion_tokens", None), "$.usage.completion_tokens: Field required"),
        (changed("tooling", [{"name": "a"}, {"version": "1"}]), "$.tooling[1].name: Field required"),
        (changed("prompts.user", "x" * 801), "$.prompts.user: String should have at most 800 characters"),
        (changed("prompts.user", [{"role": "user"}]), "$.prompts.user[0].content: Field required"),
        (changed("prompts.user", 3), "$.prompts.user: must be a text of at most 800 characters, or a list of"),
        (changed("model", None), "$: one of model and model_used is required"),
        (changed("usage", 30), "$.usage: must be a JSON object"),
        ([], "$: must be a JSON object"),
    ],
)
def test_an_error_names_its_json_path_once(document: Any, error: str) -> None:
    (found,) = check(document).errors
    assert found.startswith(error)


@pytest.mark.parametrize("junk", [None, [], "x", 3, {}])
def test_anything_can_be_checked(junk: object) -> None:
    assert check(junk).errors


async def test_a_real_call_leaves_a_valid_sidecar(models: Models, fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Behaviour(model="gpt-4o-mini-2024-07-18"))
    done = await models.complete(OPENAI, HELLO, timeout=60)
    document = written(done, retry_index=2, request_id="req-1", inputs={"a": 1}, tooling=[{"name": "search"}])
    assert document["provider"] == "openai"
    assert document["model"] == document["model_used"] == "gpt-4o-mini-2024-07-18"
    assert document["metadata"]["model_requested"] == "gpt-4o-mini"
    assert document["retry"] == {"index": 2}
    assert document["request_id"] == "req-1"
    assert document["usage"]["total_tokens"] == done.usage.total_tokens
    assert document["cost"] == {"estimated": 0.0, "known": False}
    assert any("cost is unknown" in warning for warning in document["warnings"])
    assert "errors" not in document


async def test_the_demo_provider_is_other_and_simulated() -> None:
    done = await Models(LlmSettings(llm_demo_token_delay_ms=0)).complete(DEMO, HELLO, timeout=60)
    document = written(done)
    assert document["provider"] == "other"
    assert document["metadata"]["provider"] == "demo"
    assert document["metadata"]["simulated"] is True
    assert document["cost"] == {"estimated": 0.0, "known": True}
    assert any("simulated" in warning for warning in document["warnings"])


@pytest.mark.parametrize(
    "behaviour", [Behaviour(status=429), Behaviour(status=401), Behaviour(drop_after=1), Behaviour(bad_chunk=True)]
)
async def test_a_failure_leaves_a_valid_sidecar(models: Models, fake_openai: FakeOpenAI, behaviour: Behaviour) -> None:
    fake_openai.script(behaviour)
    with pytest.raises(ModelFailure) as caught:
        await models.complete(OPENAI, HELLO, timeout=60, on_token=lambda _: None)
    (error,) = written(caught.value)["errors"]
    assert error["code"] == caught.value.kind
    assert error["retriable"] == caught.value.retriable


async def test_a_provider_that_does_not_exist_leaves_a_valid_sidecar() -> None:
    with pytest.raises(ModelFailure) as caught:
        await Models(LlmSettings()).complete(ModelChoice("gemini", "x"), HELLO, timeout=60)
    assert written(caught.value)["provider"] == "other"


async def test_an_invalid_sidecar_says_so_is_counted_and_can_be_stored() -> None:
    done = await Models(LlmSettings(llm_demo_token_delay_ms=0)).complete(DEMO, HELLO, timeout=60)
    broken = replace(done, record=replace(done.record, latency_ms=-1, cost=Cost(Decimal("NaN"))))
    counted = INVALID._value.get()
    document = sidecar_for(broken, HELLO, run_id=uuid4(), node_id=uuid4(), metadata={"node": "a\x00b\ud800"})
    reasons = document["metadata"]["invalid"]
    assert [reason.split(":")[0] for reason in reasons] == ["$.latency_ms", "$.cost.estimated"]
    assert INVALID._value.get() == counted + 1
    assert document["metadata"]["node"] == "ab\ufffd"
    json.dumps(document, allow_nan=False).encode()
    assert check(normalised(document), strict=True).errors == [], "and can be read all the same"


def test_a_failure_without_a_record_has_no_sidecar() -> None:
    with pytest.raises(ValueError, match="no record"):
        sidecar_for(ModelFailure("timeout", "late"), HELLO, run_id=uuid4(), node_id=uuid4())


@given(st.text(st.characters(codec=None), min_size=1, max_size=30), st.integers(1, 900))
def test_truncated_prompts_fit_the_format_and_any_store(piece: str, times: int) -> None:
    text = piece * times
    cut = truncated(text)
    assert len(cut) <= MAX_PROMPT
    assert "\x00" not in cut
    cut.encode()
    assert len(text) > MAX_PROMPT or cut == truncated(cut)
