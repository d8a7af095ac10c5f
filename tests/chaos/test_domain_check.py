"""The offline judge: a sound history passes, and each planted wrong is named by its rule."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.check import RULES, judge, main, summary
from tests.chaos.history import History, Record, Recorder
from tests.chaos.test_domain_review_rules import RULES as OF_REVIEWS

RUN, TASK = "run-1", "task-1"
KEYS = ("a", "b")
LEVELS = (
    "RUN_QUEUED",
    "RUN_STARTED",
    "NODE_STARTED",
    "NODE_COMPLETED",
    "NODE_STARTED",
    "NODE_COMPLETED",
    "RUN_COMPLETED",
)
OF_NODE = (None, None, "a", "a", "b", "b", None)


def fact(n: int, level: str, key: str | None = None, **more: Any) -> Record:
    body = {"title": "Chaos plan"} if key is None else {"key": key, "attempt": 1}
    about = {"run_id": RUN, "task_id": None if key else TASK, "told_at": 100.0 + n, "body": body}
    return {"kind": "fact", "id": f"f{n}", "position": n, "level": level} | about | more


def model(number: int, key: str, began: float, **more: Any) -> Record:
    about = {"number": number, "plan": "plan", "key": key, "began": began, "ended": began + 0.4}
    return {"kind": "model", "outcome": "done", "status": 200} | about | more


def call(status: int, answer: Record, **more: Any) -> Record:
    about = {"method": "POST", "path": "/tasks", "began": 99.0, "until": 99.5, "key": "k", "answer": answer}
    return {"kind": "call", "status": status, **about, **more}


def sound() -> list[Record]:
    """One run of two nodes, watched by one watcher, with an executor killed on the way."""
    facts = [fact(n, level, key) for n, (level, key) in enumerate(zip(LEVELS, OF_NODE, strict=True), start=1)]
    return [
        {"kind": "scenario", "name": "x", "after": 0, "in_flight": 1, "expect": "completed", "judge_times": True},
        {"kind": "plan", "name": "plan", "nodes": {"a": [], "b": ["a"]}},
        call(202, {"run_id": RUN}, plan="plan"),
        {"kind": "fault", "name": "kill executor", "executors": 1},
        *facts,
        *({"kind": "seen", "watcher": "w", "run_id": RUN, "id": f["id"]} for f in facts),
        model(0, "a", 103.5),
        model(1, "b", 105.1, outcome="disconnected", status=None),
        model(2, "b", 105.5),
        {"kind": "run", "id": RUN, "status": "completed", "error": None, "nodes": dict.fromkeys(KEYS, "completed")},
        {"kind": "task", "id": TASK, "status": "completed"},
        {"kind": "dead letters", "owner": "planner", "found": 0, "expected": 0},
        {"kind": "state", "after": "one delivery", "hash": "h"},
        {"kind": "figure", "name": "seconds", "value": 0.5, "limit": 1},
    ]


def broken_rules(records: list[Record]) -> set[str]:
    return {violation.rule for violation in judge(History(records))}


def of(records: list[Record], kind: str) -> list[Record]:
    return [record for record in records if record["kind"] == kind]


def change(kind: str, at: int = 0, **fields: Any) -> Callable[[list[Record]], None]:
    return lambda records: of(records, kind)[at].update(fields)


def drop(kind: str, at: int = -1) -> Callable[[list[Record]], None]:
    return lambda records: records.remove(of(records, kind)[at])


def add(*more: Record) -> Callable[[list[Record]], None]:
    return lambda records: records.extend(more)


def test_a_sound_history_breaks_no_rule() -> None:
    assert judge(History(sound())) == []
    assert summary(History(sound())) == "1 faults, 1 runs (1 completed), 3 model calls, 7 facts"


WRONGS: dict[str, tuple[Callable[[list[Record]], None], str]] = {
    "an answer 500": (add(call(500, {})), "answers_are_honest"),
    "503 without a time": (add(call(503, {}, key="")), "answers_are_honest"),
    "no answer at all": (add(call(0, {}, hung=75, key="")), "answers_are_honest"),
    "an accepted run that nobody knows": (add(call(202, {"run_id": "lost"}, key="l")), "accepted_is_kept"),
    "an accepted task that nobody tells of": (
        add(call(201, {"id": "task-2"}, key="d", drafts=True)),
        "accepted_is_kept",
    ),
    "a task that never hears of its run's end": (change("task", status="running"), "accepted_is_kept"),
    "two runs for one key": (add(call(202, {"run_id": "run-2"})), "the_same_key_gets_the_same_answer"),
    "a refusal of what was accepted": (add(call(409, {"code": "conflict"})), "the_same_key_gets_the_same_answer"),
    "a fact told twice": (add(fact(8, "PLAN_DRAFTED", id="f7")), "each_effect_happens_once"),
    "a node completed twice": (
        add(fact(8, "NODE_COMPLETED", "b"), {"kind": "seen", "watcher": "w", "run_id": RUN, "id": "f8"}),
        "each_effect_happens_once",
    ),
    "a node that starts before what it needs": (change("plan", nodes={"a": ["b"], "b": []}), "only_legal_moves"),
    "a run that starts twice": (change("fact", at=0, level="RUN_STARTED"), "only_legal_moves"),
    "a run shown otherwise than told": (change("run", status="failed"), "only_legal_moves"),
    "an attempt out of turn": (change("fact", at=4, body={"key": "b", "attempt": 3}), "only_legal_moves"),
    "two active runs of a task": (add(fact(8, "RUN_QUEUED", run_id="run-2", told_at=101.5)), "one_active_run_per_task"),
    "a run without an end": (change("run", status="running"), "every_run_ends"),
    "a run that failed": (change("run", status="failed"), "every_run_ends"),
    "something late": (add({"kind": "late", "what": "the end"}), "every_run_ends"),
    "a call after the completion": (change("model", at=2, began=107.0), "nothing_finished_is_repeated"),
    "a completion without a call": (drop("model"), "nothing_finished_is_repeated"),
    "one call too many": (add(model(3, "b", 105.2), model(4, "b", 105.3)), "model_calls_are_bounded"),
    "calls beyond the budget": (
        add({"kind": "budget", "plan": "p", "limit": 2.5, "cost": 2.55}),
        "no_budget_is_exceeded",
    ),
    "a reservation beyond the budget": (
        add({"kind": "overdraft", "budget": "task t", "used": "2.6", "limit_usd": "2.5"}),
        "no_budget_is_exceeded",
    ),
    "a gap in the feed": (change("fact", at=6, position=8), "the_timeline_has_no_gap"),
    "an end that nobody tells of": (drop("fact"), "the_timeline_has_no_gap"),
    "a watcher who missed one": (drop("seen", at=3), "no_watcher_misses_anything"),
    "a watcher who saw one twice": (
        add({"kind": "seen", "watcher": "w", "run_id": RUN, "id": "f7"}),
        "no_watcher_misses_anything",
    ),
    "a watcher who missed the end": (drop("seen"), "no_watcher_misses_anything"),
    "a stream that resumes elsewhere": (
        add({"kind": "resumed", "id": "17", "expected": ["reset", "f1"], "found": ["message", "f2"]}),
        "no_watcher_misses_anything",
    ),
    "a dead letter": (change("dead letters", found=1), "the_dead_are_those_expected"),
    "a service that ended by itself": (
        add({"kind": "died", "name": "planner", "code": 70}),
        "the_dead_are_those_expected",
    ),
    "another state after a repeat": (
        add({"kind": "state", "after": "ten deliveries", "hash": "g"}),
        "the_state_does_not_depend_on_delivery",
    ),
    "a promise of time that is broken": (change("figure", value=1.5), "promised_times_are_kept"),
    "a fault that did not come": (change("scenario", tells=["NODE_PAUSED"]), "something_happened"),
    "reviews that nobody cut off": (change("scenario", cuts_reviews=True), "something_happened"),
    "nothing at all": (lambda records: records.clear(), "something_happened"),
}


@pytest.mark.parametrize("wrong", WRONGS)
def test_the_judge_names_the_rule_that_is_broken_by(wrong: str) -> None:
    plant, rule = WRONGS[wrong]
    records = copy.deepcopy(sound())
    plant(records)
    assert rule in broken_rules(records)


def test_a_watcher_answers_for_what_was_told_while_it_watched() -> None:
    records = sound()
    drop("seen")(records)
    add({"kind": "watched", "until": 6})(records)
    assert broken_rules(records) == set()
    change("watched", until=7)(records)
    assert broken_rules(records) == {"no_watcher_misses_anything"}


def test_a_step_without_a_model_is_completed_without_a_call() -> None:
    records = sound()
    of(records, "plan")[0]["walked"] = ["b"]
    drop("model", 1)(records)
    drop("model", 1)(records)
    assert broken_rules(records) == set()
    add(model(3, "a", 103.6), model(4, "a", 103.7))(records)
    assert "model_calls_are_bounded" in broken_rules(records), "its own call is not to be given to others"


def test_an_order_to_run_a_node_again_grants_its_calls() -> None:
    records = [*sound(), model(3, "b", 105.2), model(4, "b", 105.3)]
    records.append(call(200, {}, method="PATCH", path="/nodes/1", key="order", again=2))
    assert broken_rules(records) == set()
    records[-1]["again"] = 1
    assert broken_rules(records) == {"model_calls_are_bounded"}


def test_a_cancel_that_was_accepted_must_take_effect() -> None:
    records = sound()
    records.append(call(200, {}, method="PATCH", run=RUN, action="cancel", key="c", until=90.0))
    assert broken_rules(records) == {"orders_take_effect"}
    records[-1]["until"] = 106.0
    assert broken_rules(records) == set(), "what had begun by then may finish first"


def test_every_rule_has_a_wrong_that_breaks_it() -> None:
    elsewhere = {"orders_take_effect", "orders_to_nodes_take_effect", *(rule.__name__ for rule in OF_REVIEWS)}
    planted = {rule for _, rule in WRONGS.values()} | elsewhere
    assert planted == {rule.__name__ for rule in RULES}


def test_a_history_is_read_back_from_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder(tmp_path / "h" / "history.jsonl", name="x", after=0, in_flight=1)
    for record in sound()[1:]:
        fields = {k: v for k, v in record.items() if k != "kind"}
        recorder.note(record["kind"], **fields)
    recorder.close()
    assert main([str(recorder.path)]) == 0
    assert "0 violations" in capsys.readouterr().out
    with recorder.path.open("a") as file:
        file.write(json.dumps({"kind": "late", "what": "the end"}) + "\n")
    assert main([str(recorder.path)]) == 1
    assert "every run ends: the end did not come in time" in capsys.readouterr().out
    assert main([]) == 2
