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


def test_every_change_since_the_last_release_is_additive() -> None:
    released = json.loads((generate.ROOT / additive.RELEASED).read_text())
    assert len(released) >= 50
    assert list(additive.broken_since(released, generate.by_name())) == []


@pytest.mark.parametrize("message", catalog.MESSAGES, ids=lambda m: m.type_name())
def test_a_reader_ignores_fields_it_does_not_know(message: Any) -> None:
    assert message.model_config["extra"] == "ignore"


def changed(name: str, *path: str | int, to: Any = None, **more: Any) -> list[str]:
    """What is said when one place of a golden schema is something else (None: gone), or has more in it."""
    old = golden(name)
    new = copy.deepcopy(old)
    *way, last = path
    place: Any = new
    for step in way:
        place = place[step]
    if more:
        place[last].update(more)
    elif to is None:
        del place[last]
    else:
        place[last] = to
    assert new != old, "the change is one"
    return list(additive.breaking(old, new))


FACT, ORDER, DETAIL = "executor.node.completed", "rpc.executor.run.start", "rpc.executor.node.get"
NODE = ("request", "$defs", "RunNode", "properties")
BREAKING = [
    (FACT, ("properties", "checksum"), {}, "$.checksum: the field is gone"),
    (FACT, ("required",), {"to": ["brand_new"]}, "$.brand_new: a new field is required"),
    (FACT, ("properties", "attempt", "type"), {"to": "string"}, "$.attempt: the type changed from integer to string"),
    (FACT, ("properties", "run_id", "format"), {}, "$.run_id: the format changed from uuid to None"),
    (FACT, ("properties", "checksum", "anyOf", 0), {}, "$.checksum: it can be no string any more"),
    (FACT, ("properties", "warnings", "items", "type"), {"to": "integer"}, "$.warnings[]: the type changed"),
    (FACT, ("$defs", "Usage", "properties", "requests"), {}, "$.usage.requests: the field is gone"),
    (FACT, ("properties", "usage"), {"to": {"type": "string"}}, "$.usage: the type changed from object to string"),
    (ORDER, (*NODE, "kind"), {"to": {"enum": ["agent"], "type": "string"}}, "$.request.nodes[].kind: the values"),
    (
        ORDER,
        ("request", "$defs", "RunNode", "required"),
        {"to": ["key", "title", "role"]},
        "role: the field is required now",
    ),
    (ORDER, (*NODE, "timeout_s", "anyOf", 0, "maximum"), {"to": 60}, "timeout_s: maximum is 60 now, and was 86400"),
    (ORDER, (*NODE, "role", "anyOf", 0, "maxLength"), {"to": 9}, "role: maxLength is 9 now, and was 200"),
    (
        ORDER,
        (*NODE, "params", "additionalProperties"),
        {"to": {"type": "string"}},
        "params.*: additionalProperties is limited",
    ),
    (ORDER, ("request", "properties", "nodes", "maxItems"), {"to": 100}, "nodes: maxItems is 100 now, and was 200"),
    (
        DETAIL,
        ("answer", "$defs", "BlobRef", "properties", "key", "type"),
        {"to": "integer"},
        "$.answer.output_ref.key: the type",
    ),
]


@pytest.mark.parametrize(("name", "path", "change", "said"), BREAKING)
def test_a_planted_breaking_change_is_noticed(
    name: str, path: tuple[str | int, ...], change: dict[str, Any], said: str
) -> None:
    assert [line for line in changed(name, *path, **change) if said in line]


@pytest.mark.parametrize(
    ("name", "path", "more"),
    [
        (FACT, ("properties",), {"extra": {"type": "string"}}),
        (FACT, ("$defs", "Usage", "properties"), {"cached_tokens": {"type": "integer", "default": 0}}),
        (ORDER, (*NODE, "timeout_s", "anyOf", 0), {"maximum": 100_000}),
        (ORDER, (*NODE, "title"), {"description": "what people read", "title": "Name"}),
    ],
)
def test_an_additive_change_passes(name: str, path: tuple[str | int, ...], more: dict[str, Any]) -> None:
    assert changed(name, *path, **more) == []


def test_what_is_asked_may_allow_more_and_what_is_told_may_not() -> None:
    string, either = {"type": "string"}, {"anyOf": [{"type": "string"}, {"type": "null"}]}
    old, new = ({"properties": {"by": by}} for by in (string, either))
    assert list(additive.breaking(old, new)) == ["$.by: it may be null now, which readers do not expect"]
    assert list(additive.breaking({"request": old, "answer": old}, {"request": new, "answer": old})) == []
    assert list(additive.breaking(new, old)) == ["$.by: it can be no null any more"]


def test_a_definition_that_refers_to_itself_is_compared_and_a_renamed_one_is_the_same() -> None:
    def tree(name: str, **leaf: Any) -> dict[str, Any]:
        ref = {"$ref": f"#/$defs/{name}"}
        node = {"type": "object", "properties": {"below": {"type": "array", "items": ref}, "leaf": leaf}}
        return {"$defs": {name: node}, "properties": {"root": {"anyOf": [ref, {"type": "null"}]}}}

    assert list(additive.breaking(tree("Tree", type="string"), tree("Graph", type="string"))) == []
    assert list(additive.breaking(tree("Tree", type="string"), tree("Tree", type="null"))) == [
        "$.root.leaf: the type changed from string to null"
    ]


def test_a_message_that_is_gone_is_noticed_and_the_baseline_says_what_the_schemas_say() -> None:
    now = generate.by_name()
    kept = json.loads(additive.as_released(now))
    assert list(additive.broken_since(kept, now)) == []
    assert list(additive.broken_since(kept, {n: s for n, s in now.items() if n != f"{FACT}.json"})) == [
        f"{FACT}.json: the message is gone"
    ]


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
