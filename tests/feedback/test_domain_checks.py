"""What code finds out about a result, and what it leaves open."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.artifacts import Delivered
from contracts.executor import RunNode
from services.feedback.adapters.validator import TOO_MUCH, Validator
from services.feedback.domain import formats
from services.feedback.domain.checks import Checked, check
from services.feedback.domain.formats import Judgement
from services.feedback.domain.opinion import Assessment, assess

SCHEMA = {
    "type": "object",
    "required": ["harbours"],
    "properties": {"harbours": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
}


def node(*acceptance: str, **params: Any) -> RunNode:
    return RunNode(key="a", title="Write on tides", acceptance=list(acceptance), params=params)


def assessed(output: str | None, of: RunNode | None = None, *warnings: str) -> Assessment:
    return assess(check(output, of or node(), warnings), None, None)


def failed(checked: Checked) -> dict[str, str]:
    return {found.name: found.reason for found in checked.findings if not found.passed}


@pytest.mark.parametrize("nothing", [None, "", "  \n", "…", "```\n```", "---"])
def test_an_empty_answer_is_worth_nothing(nothing: str | None) -> None:
    found = assessed(nothing)
    assert (found.score, found.unusable, found.failed) == (0, True, ["not empty"])


@pytest.mark.parametrize(
    "refusal",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I am unable to do this.",
        "**I cannot assist with this request.**",
        "As an AI language model, I cannot browse the web.",
        "Je suis désolé, mais je ne peux pas vous aider.",
        "> I won't provide that text.",
        "Tut mir leid, das kann ich leider nicht.",
    ],
)
def test_a_refusal_is_not_a_result(refusal: str) -> None:
    found = assessed(refusal)
    assert (found.unusable, found.failed) == (True, ["no refusal"])
    assert found.score < 10


@pytest.mark.parametrize(
    "work",
    [
        "I cannot confirm the figure of 1987; all others come from the almanac, which lists 42 harbours.",
        "The captain said: I'm sorry we are late. The tide turned at noon.",
        "42",
        "Customers ask what to do when the support says it cannot help. " * 3,
        "I'm sorry, but I can't help with that. " + "Still, here is what can be said about the tides. " * 40,
    ],
)
def test_work_that_sounds_like_a_refusal_is_none(work: str) -> None:
    assert assessed(work).score == 100


@pytest.mark.parametrize(
    ("output", "params", "wrong"),
    [
        ('{"harbours": ["Brest"]}', {"output_schema": SCHEMA}, None),
        ('```json\n{"harbours": ["Brest"]}\n```', {"output_format": "JSON", "output_schema": SCHEMA}, None),
        ('Here you are: {"harbours": ["Brest"]}', {"output_schema": SCHEMA}, "not valid json"),
        ('{"harbours": []}', {"output_schema": SCHEMA}, "at $.harbours"),
        ('{"harbours": ["Brest", 7]}', {"output_schema": SCHEMA}, "at $.harbours[1]"),
        ('{"depth": NaN}', {"output_format": "json"}, "NaN is no JSON"),
        ("[" * 100_000, {"output_format": "json"}, "not valid json"),
        ('{"a": 1}\n\n{"a": 2}', {"output_format": "jsonl"}, None),
        ('{"a": 1}\nnothing', {"output_format": "jsonl"}, "not valid jsonl"),
        ('{"a": 1}\n{"b": 1}', {"output_format": "jsonl", "output_schema": {"required": ["a"]}}, "line 2"),
        ("harbour,depth\nBrest,12\n", {"output_format": "csv"}, None),
        ("harbour,depth\nBrest,12,deep\n", {"output_format": "csv"}, "row 2 has 3 fields"),
        ("harbour,depth", {"output_format": "csv"}, "no row below its header"),
        ("# Any text", {"output_format": "markdown"}, None),
        ("[]", {"output_format": "json"}, None),
        (f'{{"n": {10**300}}}', {"output_schema": {"properties": {"n": {"type": "integer"}}}}, None),
        (f'{{"n": {10**300}}}', {"output_schema": {"properties": {"n": {"maximum": 7}}}}, "at $.n"),
    ],
)
def test_a_declared_format_is_held_against_the_result(output: str, params: dict[str, Any], wrong: str | None) -> None:
    found = failed(check(output, node(**params)))
    assert ("format" in found) == (wrong is not None)
    assert (wrong or "") in found.get("format", "")
    assert assessed(output, node(**params)).unusable == (wrong is not None)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "http://127.0.0.1:9/schema"},
        {"pattern": "(("},
        "not a schema",
        {"$ref": "#/nowhere"},
    ],
    ids=["no schema", "elsewhere", "no pattern", "text", "dangling"],
)
def test_what_cannot_be_checked_is_not_claimed(schema: Any) -> None:
    checked = check('{"a": 1}', node(output_format="json", output_schema=schema))
    assert "format" not in {found.name for found in checked.findings}
    assert [said.split(":")[0] for said in checked.not_checked] == ["format"]


def test_a_pattern_that_would_take_years_is_done_at_once() -> None:
    evil = node(output_schema={"pattern": "^(?=a)((a|a)*)*$"})
    assert check(json.dumps("a" * 5_000 + "!"), evil)


DOUBLING = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n - 1}"}] * 2} for n in range(1, 60)}


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"$defs": {"a0": {"type": "integer"}, **DOUBLING}, "$ref": "#/$defs/a59"}, Judgement(uncheckable=TOO_MUCH)),
        ({"$defs": {"n": {"type": "integer"}}, "$ref": "#/$defs/n"}, Judgement("json", None, True)),
        ({"$ref": "#/nowhere"}, formats.judgement("1", {"output_schema": {"$ref": "#/nowhere"}})),
        ({"uniqueItems": True}, Judgement("json", None, True)),
        ({"multipleOf": 0.5}, Judgement("json", None, True)),
    ],
    ids=["years", "an integer", "dangling", "each number with each other", "a fraction of a large number"],
)
async def test_a_schema_that_may_take_years_is_tried_in_a_process_apart(
    schema: dict[str, Any], said: Judgement
) -> None:
    assert await Validator().judgement("1", {"output_schema": schema}) == said


async def test_a_plain_schema_is_looked_at_in_place() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert await Validator().judgement('{"a": 1}', {"output_schema": schema}) is None
    assert formats.is_costly("1" * 1_000_000, {"output_schema": schema}), "each part of it at each of the text"


def test_deliverables_are_named_as_unchecked_when_nobody_can_say_what_there_is() -> None:
    checked = check("Done.", node(deliverables=[{"name": "report.pdf"}, "data.csv", "a fine report"]))
    assert checked.not_checked == (
        "deliverables report.pdf, data.csv: what was delivered could not be asked for",
        "deliverables a fine report: no path and no kind to look for",
    )


THERE = Delivered(
    files={"report.pdf": 9, "moon.png": 3, "site/index.html": 7, "empty.csv": 0},
    kinds={"report.pdf": "document", "moon.png": "image", "site/index.html": "document", "empty.csv": "file"},
    links=[],
    preview="index.html",
    preview_flaw="there is no 'index.html'",
)


@pytest.mark.parametrize(
    ("owed", "lack"),
    [
        ("report.pdf", None),
        ({"path": "report.pdf", "kind": "document"}, None),
        ({"path": "report.pdf", "kind": "image"}, "is no image but a document"),
        ({"path": "report.pdf", "kind": "file"}, None),
        ("data.csv", "data.csv was not delivered; write it with write_file"),
        ("empty.csv", "is empty"),
        ("image", None),
        ("file", None),
        ("document", None),
        ("link", "call add_link"),
        ("preview", "the preview cannot be published: there is no 'index.html'"),
        ("a.md", None),  # the result itself, of a node with the key a
        ("b.md", "b.md was not delivered"),
    ],
)
def test_what_a_node_owes_is_held_against_what_it_delivered(owed: Any, lack: str | None) -> None:
    spec = RunNode(key="a", title="x", deliverables=[owed])
    checked = check("The tides follow the moon, and the moon goes round.", spec, delivered=THERE)
    found = {name: reason for name, reason in failed(checked).items() if name.startswith("deliverable ")}
    assert len(found) == (lack is not None)
    assert (lack or "") in "".join(found.values())
    assert assess(checked, None, None).unusable == (lack is not None)


def test_a_preview_that_is_owed_by_its_page_opens_with_that_page() -> None:
    spec = RunNode(key="a", title="x", deliverables=[{"kind": "preview", "path": "site/index.html"}])
    name = "deliverable preview site/index.html"
    there = THERE.model_copy(update={"preview": "site/index.html", "preview_flaw": None})
    assert name not in failed(check("Done as asked.", spec, delivered=there))
    other = there.model_copy(update={"preview": "start.html"})
    said = failed(check("Done as asked.", spec, delivered=other))[name]
    assert said == "the preview opens with start.html; call publish_preview with site/index.html"


def test_a_preview_that_nobody_asked_for_is_missed() -> None:
    spec = RunNode(key="a", title="x", deliverables=["preview"])
    nothing = Delivered(files={}, kinds={}, links=[], preview=None)
    assert "publish_preview" in failed(check("Done as asked.", spec, delivered=nothing))["deliverable preview"]


@pytest.mark.parametrize(
    ("params", "score"),
    [
        ({"min_words": 2, "max_words": 2, "min_length": 9}, 100),
        ({"min_words": 3}, 80),
        ({"min_words": 20}, 46),
        ({"max_words": 1}, 70),
        ({"max_length": 3}, 60),
        ({"min_words": -1}, 100),
        ({"min_words": True}, 100),
        ({"min_words": "many"}, 100),
    ],
)
def test_a_length_that_was_asked_for_is_measured(params: dict[str, Any], score: int) -> None:
    found = assessed("two words", node(**params))
    assert found.score == score
    assert found.failed == (["length"] if score < 100 else [])


def test_criteria_whose_words_never_turn_up_take_points_but_never_stop_a_node_alone() -> None:
    criteria = ("At least five sources are cited", "Every harbour has its depth", "Risks of fog are named")
    none = assessed("Nothing of the kind.", node(*criteria))
    one = assessed("Each harbour with its depth: Brest 12 m.", node(*criteria))
    all = assessed("Sources cited: five. Harbour depth 12 m. Risks: fog is named.", node(*criteria))
    assert 60 <= none.score < one.score < all.score == 100
    assert len(none.failed) == 3
    assert not none.unusable


def test_hints_together_stop_a_node() -> None:
    cut = "the text is cut off: its model had reached the limit of tokens (LLM_MAX_OUTPUT_TOKENS)"
    criteria = ("At least five sources are cited",)
    assert assessed("Nothing.", node(), cut).score >= 60
    assert assessed("Nothing.", node(*criteria), cut).score < 60


def test_of_a_beginning_only_what_a_beginning_shows_is_said() -> None:
    checked = check('{"harbours": [', node("Every harbour has its depth", output_schema=SCHEMA), whole=False)
    assert failed(checked) == {}
    assert len(checked.not_checked) == 1


@given(st.text(max_size=200), st.lists(st.text(max_size=40), max_size=4), st.dictionaries(st.sampled_from(
    ["output_format", "output_schema", "min_words", "max_length", "deliverables"]),
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.sampled_from(["type", "name", "$ref", "required"]), st.text(max_size=5)), max_size=3))  # fmt: skip
def test_whatever_a_node_declares_and_an_author_writes_it_has_a_score(
    output: str, acceptance: list[str], params: dict[str, Any]
) -> None:
    found = assess(check(output, RunNode.model_construct(acceptance=acceptance, params=params)), None, None)
    assert 0 <= found.score <= 100
    assert found.comment
    assert {c.name for c in found.criteria if not c.passed} == set(found.failed)
