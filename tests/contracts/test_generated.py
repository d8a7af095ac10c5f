"""What is generated is up to date, and a breaking change of a schema is noticed."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from contracts import catalog
from scripts import additive, generate


def golden(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((generate.ROOT / generate.SCHEMAS / f"{name}.json").read_text())
    return loaded


def test_every_change_since_the_last_commit_is_additive() -> None:
    for path, text in generate.schemas():
        if (old := additive.committed(path)) is not None:
            assert list(additive.breaking(old, json.loads(text))) == [], path


@pytest.mark.parametrize("message", catalog.MESSAGES, ids=lambda m: m.type_name())
def test_a_reader_ignores_fields_it_does_not_know(message: Any) -> None:
    assert message.model_config["extra"] == "ignore"


def test_a_planted_breaking_change_is_noticed() -> None:
    old = golden("executor.node.completed")
    gone = copy.deepcopy(old)
    del gone["properties"]["checksum"]
    assert any("checksum: the field is gone" in line for line in additive.breaking(old, gone))
    required = copy.deepcopy(old)
    required["required"].append("brand_new")
    required["properties"]["brand_new"] = {"type": "string"}
    assert any("brand_new: a new field is required" in line for line in additive.breaking(old, required))
    retyped = copy.deepcopy(old)
    retyped["properties"]["attempt"]["type"] = "string"
    assert any("attempt: the type changed" in line for line in additive.breaking(old, retyped))
    grown = copy.deepcopy(old)
    grown["properties"]["extra"] = {"type": "string"}
    assert list(additive.breaking(old, grown)) == []


def test_the_check_names_what_is_stale_missing_or_orphaned() -> None:
    expected = dict(generate.schemas())
    assert generate.stale(expected) == []
    first, second = list(expected)[:2]
    changed = expected | {first: "{}\n"}
    changed.pop(second)
    assert generate.stale(changed) == [f"{first}: differs", f"{second}: no message has this name any more"]


def test_the_asyncapi_document_describes_every_message_and_request() -> None:
    document = json.loads((generate.ROOT / "docs/asyncapi.json").read_text())
    assert document["asyncapi"].startswith("3.")
    for message in catalog.MESSAGES:
        assert message.type_name() in document["channels"]
    for request in catalog.REQUESTS:
        operation = document["operations"][request.subject()]
        assert operation["reply"]["channel"]["$ref"].endswith(".reply")
