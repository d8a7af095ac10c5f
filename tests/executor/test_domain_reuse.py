"""Which results of an earlier run are taken over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import hypothesis.strategies as st
import pytest
from hypothesis import given

from contracts.executor import RunNode
from services.executor.domain.reuse import INPUTS, Earlier, fingerprint, reusable

CHANGES: dict[str, Any] = {
    "title": "Another",
    "kind": "noop",
    "instructions": "Do something else.",
    "notes": "Mind the gap.",
    "acceptance": ["it is short"],
    "deliverables": [{"path": "index.html"}],
    "risks": ["late"],
    "assumptions": ["none"],
    "role": "Editor",
    "agent_id": "agent-7",
    "llm_backend": "ollama",
    "llm_model": "small",
    "params": {"depth": 2},
}


def spec(key: str, *deps: str, **fields: Any) -> dict[str, Any]:
    return RunNode(key=key, title=f"Node {key}", deps=list(deps), **fields).model_dump(mode="json")


def done(*specs: Mapping[str, Any]) -> list[Earlier]:
    return [Earlier(uuid4(), True, "c" * 64, s) for s in specs]


def test_an_unchanged_plan_is_taken_over_whole() -> None:
    plan = [spec("a"), spec("b", "a")]
    earlier = done(*plan)
    assert reusable("t", plan, "t", earlier) == {"a": earlier[0], "b": earlier[1]}


@pytest.mark.parametrize("field", INPUTS)
def test_whatever_the_model_is_told_makes_a_node_another_one(field: str) -> None:
    assert fingerprint("t", spec("a")) != fingerprint("t", spec("a") | {field: CHANGES[field]})


def test_limits_and_fallbacks_do_not_change_a_result() -> None:
    other = spec("a", timeout_s=5, max_attempts=2, fallbacks=[{"provider": "x", "model": "y"}])
    assert fingerprint("t", spec("a")) == fingerprint("t", other)


def test_a_change_reaches_everything_that_stands_on_it_and_nothing_else() -> None:
    plan = [spec("a"), spec("b", "a"), spec("c", "b"), spec("x")]
    changed = [spec("a"), spec("b", "a", instructions="New."), spec("c", "b"), spec("x")]
    assert sorted(reusable("t", changed, "t", done(*plan))) == ["a", "x"]


def test_another_task_title_or_other_dependencies_change_what_is_told() -> None:
    plan = [spec("a"), spec("b", "a")]
    assert reusable("new", plan, "old", done(*plan)) == {}
    assert sorted(reusable("t", [spec("a"), spec("b")], "t", done(*plan))) == ["a"]


def test_what_was_not_completed_is_not_taken_over() -> None:
    plan = [spec("a"), spec("b", "a")]
    skipped, after = done(*plan)
    assert reusable("t", plan, "t", [skipped._replace(completed=False), after]) == {}


@st.composite
def plans(draw: st.DrawFn) -> list[dict[str, Any]]:
    keys = [f"n{i}" for i in range(draw(st.integers(1, 8)))]
    return [spec(key, *sorted(draw(st.sets(st.sampled_from(keys[:i]))) if i else ())) for i, key in enumerate(keys)]


@given(plan=plans(), data=st.data())
def test_a_node_is_taken_over_exactly_when_it_and_all_before_it_are_unchanged_and_done(
    plan: list[dict[str, Any]], data: st.DataObject
) -> None:
    keys = [s["key"] for s in plan]
    changed = data.draw(st.sets(st.sampled_from(keys)))
    undone = data.draw(st.sets(st.sampled_from(keys)))
    earlier = [e._replace(completed=e.spec["key"] not in undone) for e in done(*plan)]
    new = [s | ({"instructions": "New."} if s["key"] in changed else {}) for s in plan]

    taken = reusable("t", data.draw(st.permutations(new)), "t", earlier)

    spoiled = changed | undone
    for s in plan:
        if set(s["deps"]) & spoiled:
            spoiled = spoiled | {s["key"]}
    assert set(taken) == set(keys) - spoiled
