"""The verdict of a drill: what the model server and the watcher saw, compared without our own tables."""

from __future__ import annotations

import re
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from fluidcrew.drill_view import Drilled, Strike, final_line, report
from fluidcrew.drill_witness import Seen, Verdict, Witness, nodes, verdict
from fluidcrew.progress import RunView

KEYS = [node["id"] for node in nodes()]


def calls(**changes: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """One of each node, done long before its completion was committed."""
    return {key: [{"at": 1.0, "outcome": "done"}] for key in KEYS} | changes


def witness() -> Witness:
    seen = [Seen(f"f{n}", "NODE_COMPLETED", key, at=10.0 + n, arrived=10.5 + n) for n, key in enumerate(KEYS)]
    return Witness("http://127.0.0.1:9/v1", seen, {"t1": "an idea"})


def judged(given: dict[str, list[dict[str, Any]]] | None = None, saw: Witness | None = None, **more: Any) -> Verdict:
    saw = saw or witness()
    told = {"told": [f"f{n}" for n in range(30)], "tasks": ["t1"]} | more
    return verdict(saw, calls() if given is None else given, told["told"], told["tasks"])


def test_thirty_nodes_each_after_two_of_the_layer_before() -> None:
    assert len(KEYS) == len(set(KEYS)) == 30
    assert all(set(node["deps"]) <= set(KEYS) for node in nodes())
    assert {len(node["deps"]) for node in nodes()} == {0, 2}


def test_what_is_complete_and_seen_once_is_clean() -> None:
    found = judged()
    assert (found.lost, found.repeated, found.cut_off, found.calls) == ([], [], 0, 30)


def test_a_call_that_died_with_its_worker_is_counted_apart_and_is_no_repeat() -> None:
    found = judged(calls(**{KEYS[3]: [{"at": 1.0, "outcome": "disconnected"}, {"at": 2.0, "outcome": "done"}]}))
    assert found.clean
    assert (found.cut_off, found.calls) == (1, 31)


@pytest.mark.parametrize(
    ("wrong", "lost", "repeated"),
    [
        (lambda: judged(calls(**{KEYS[0]: []})), 1, 0),
        (lambda: judged(calls(**{KEYS[0]: [{"at": 1.0, "outcome": "done"}, {"at": 11.0, "outcome": "done"}]})), 0, 1),
        (lambda: judged(told=[f"f{n}" for n in range(31)]), 1, 0),
        (lambda: judged(tasks=[]), 1, 0),
        (lambda: judged(tasks=["t1", "t1"]), 0, 1),
        (lambda: judged(saw=Witness("", [*witness().seen, witness().seen[4]], {})), 0, 1),
        (lambda: judged(saw=Witness("", witness().seen[:-1], {})), 2, 0),
    ],
    ids=["no call", "called again", "fact unseen", "task gone", "task twice", "fact twice", "never completed"],
)
def test_every_kind_of_loss_and_repeat_is_named(wrong: Any, lost: int, repeated: int) -> None:
    found = wrong()
    assert (len(found.lost), len(found.repeated)) == (lost, repeated), found
    assert not found.clean


def test_recovered_is_the_first_fact_that_happened_after_the_strike() -> None:
    assert witness().recovered(12.2) == 13.5
    assert witness().recovered(99.0) is None


def test_the_last_line_names_the_longest_recovery_or_that_there_was_none() -> None:
    strikes = [Strike("a", 1, 10.0, 11.5), Strike("b", 2, 20.0, 20.3)]
    assert final_line(Drilled(RunView("r"), strikes, judged())).plain == "lost 0 · repeated 0 · recovered in 1.5 s"
    strikes.append(Strike("c", 3, 30.0))
    assert final_line(Drilled(RunView("r"), strikes, judged())).plain == "lost 0 · repeated 0 · did not recover"


def test_a_drill_whose_run_was_over_before_all_was_killed_has_proved_nothing() -> None:
    drilled = Drilled(RunView("r"), [Strike("all workers", 1, 10.0, 11.5)], judged(), spared=["the broker"])
    assert drilled.verdict.clean
    assert not drilled.passed
    screen = StringIO()
    Console(file=screen, width=120).print(report(drilled))
    assert re.search(r"spared\s+the broker: the run was over first", screen.getvalue())
