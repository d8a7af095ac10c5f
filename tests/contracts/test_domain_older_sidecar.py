"""Older sidecars are read as version 1.0, whatever they hold; what was read stays as it was."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.older_sidecar import NAMES, PROMPT_NAMES, NoSidecar, normalised
from contracts.sidecar import check, json_schema
from tests.contracts.sidecar_example import EXAMPLE as VALID

SCHEMA = jsonschema_rs.Draft202012Validator(json_schema(), validate_formats=True)
CORPUS = Path(__file__).parent / "data" / "older_sidecars"
RUN, NODE = "7f3c1d52-8f0e-4b7a-9a51-3d2c6f1e0b11", "0d9f1c64-1f0b-4c1e-8c3d-2b7a9e5f4a22"

numbers = (
    st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["12", " 7 ", "0.5", "$0.12", "1e400", "many", "-3"])
)
times = st.sampled_from(["2024-05-21", "2024-05-21T10:00:00", "2024-05-21t10:00:00.123456789z", "noon", 1716285600.5])
scalars = st.none() | st.booleans() | numbers | times | st.text(max_size=12)
names = st.sampled_from(
    sorted(
        {*VALID, *NAMES, *(old for earlier in NAMES.values() for old in earlier), *PROMPT_NAMES}
        | {"raw", "model_used", "metadata", "inputs", "request_id", "started_at", "ended_at", "index", "name", "code"}
        | {
            "prompt_tokens",
            "input_tokens",
            "completion_tokens",
            "total_tokens",
            "estimated",
            "known",
            "role",
            "content",
        }
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | names, inner, max_size=4),
    max_leaves=8,
)
documents = st.dictionaries(names, values, max_size=12)


@given(documents, st.sets(names), documents)
def test_whatever_is_read_is_valid_read_again_the_same_and_left_as_it_was(
    some: dict[str, Any], left_out: set[str], all_of_it: dict[str, Any]
) -> None:
    for document in (some, {k: v for k, v in (VALID | all_of_it).items() if k not in left_out}):
        before = copy.deepcopy(document)
        read = normalised(document)
        assert repr(document) == repr(before), "the original stays as it is"
        assert check(read, strict=True).errors == []
        assert SCHEMA.is_valid(read)
        assert normalised(read) == read


def test_a_valid_sidecar_comes_back_as_it_is() -> None:
    assert normalised(VALID) == VALID


@pytest.mark.parametrize("file", sorted(CORPUS.glob("*.llm.json")), ids=lambda file: file.name)
def test_the_corpus_is_read_as_it_always_was(file: Path) -> None:
    as_it_was = file.read_bytes()
    expected = json.loads(file.with_suffix("").with_suffix(".expected.json").read_text())
    assert normalised(json.loads(as_it_was), run_id=RUN, node_id=NODE) == expected
    assert file.read_bytes() == as_it_was


def test_the_corpus_is_there() -> None:
    assert len(list(CORPUS.glob("*.llm.json"))) >= 8


def test_ids_that_are_none_become_ids_always_the_same_ones_and_different_for_different_nodes() -> None:
    first, again, other = (normalised(VALID | {"node_id": name}) for name in ("draft", "draft", "review"))
    assert first["node_id"] == again["node_id"] != other["node_id"]
    assert first["run_id"] == VALID["run_id"]
    nameless = [normalised(VALID | {"node_id": None, "latency_ms": ms}) for ms in (1, 2)]
    assert nameless[0]["node_id"] != nameless[1]["node_id"], "made up from the whole document"


def test_known_ids_are_taken_for_those_that_are_missing() -> None:
    read = normalised({"run_id": "run-7"}, run_id=RUN, node_id=NODE)
    assert (read["run_id"], read["node_id"]) == (RUN, NODE)


def test_an_unknown_price_is_unknown_and_told_of() -> None:
    for cost in (None, "free", -1, {"estimated": True}, {}):
        read = normalised(VALID | {"cost": cost})
        assert read["cost"] == {"estimated": 0.0, "known": False}
        assert any("cost is unknown" in warning for warning in read["warnings"])


@pytest.mark.parametrize("junk", [None, [], "x", 3, [VALID]])
def test_what_is_no_object_is_refused(junk: object) -> None:
    with pytest.raises(NoSidecar, match="JSON object"):
        normalised(junk)
