"""The rules of reviewed runs: a history in which each verdict was heeded passes, and each planted wrong is named."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chassis.testing.fake_answers import Call
from tests.chaos import review_rules
from tests.chaos.history import History, Record
from tests.chaos.model_server import JUDGE, ModelServer, judged_result, unnumbered
from tests.chaos.moves import only_legal_moves
from tests.chaos.rules import Rule, each_effect_happens_once, model_calls_are_bounded, nothing_finished_is_repeated

RUN = "run-1"
CENT = 0.01
RULES: tuple[Rule, ...] = (
    review_rules.nothing_counts_without_its_verdict,
    review_rules.each_result_is_judged_once,
    review_rules.a_held_result_is_not_built_upon,
    review_rules.reviews_are_bounded,
    review_rules.runs_cost_what_was_called,
    review_rules.the_verdict_in_force_is_obeyed,
    review_rules.whoever_waits_says_why,
    review_rules.reruns_take_effect,
    each_effect_happens_once,
    only_legal_moves,
    model_calls_are_bounded,
    nothing_finished_is_repeated,
)


def fact(at: float, level: str, key: str = "", attempt: int = 1, **body: Any) -> Record:
    if key:
        body |= {"key": key, "attempt": attempt}
    about = {"id": f"{at} {level}", "position": int(at * 10), "run_id": RUN, "task_id": None, "told_at": at}
    return {"kind": "fact", "level": level, "body": body} | about


def result(grade: int, number: int) -> str:
    return f"grade:{grade} the work #{number}"


def verdict(at: float, key: str, attempt: int, score: int, source: str, effect: str) -> list[Record]:
    given = fact(at, "FEEDBACK_GIVEN", key, attempt, source=source, score=score)
    return [given, fact(at + 0.01, "VERDICT_GIVEN", key, attempt, source=source, effect=effect)]


def call(number: int, key: str, began: float, **more: Any) -> Record:
    about = {"plan": "plan", "key": key, "number": number, "began": began, "outcome": "done", "status": 200}
    return {"kind": "model", "charged": 1} | about | more


def review(of: int, grade: int, key: str, began: float, **more: Any) -> Record:
    return call(of + 100, key, began, of=of, grade=grade) | {"kind": "review"} | more


def feedback(id: str, key: str, attempt: int, source: str, score: int, *, in_force: bool = True) -> Record:
    about = {"id": id, "key": key, "attempt": attempt, "source": source, "score": score, "in_force": in_force}
    return {"kind": "feedback", "run": RUN, "reviewer": source} | about


def node(key: str, attempt: int, said: str) -> Record:
    about = {"key": key, "attempt": attempt, "verdict": said, "effect": "release", "status": "completed"}
    return {"kind": "node", "run": RUN} | about


def person_says(score: int, attempt: int, began: float) -> Record:
    about = {"judges": True, "run": RUN, "of_node": "a", "attempt": attempt, "score": score, "key": f"v{began}"}
    return {"kind": "call", "method": "POST", "path": "/feedbacks", "status": 201, "answer": {}, "began": began} | about


def sound() -> list[Record]:
    """`a` is found poor and does it again by itself, poorly; a person lets it go, later stops it, and lets it go again. `b`
    stands on it, and is done once more on a person's order."""
    why = {"key": "a", "reason": "verdict", "detail": "35 of 60", "release": "a score"}
    rerun = {"action": "rerun", "run": RUN, "node": "b", "actor": "olga", "again": 1, "key": "r"}
    return [
        {"kind": "scenario", "in_flight": 1, "price": CENT, "most": 5 * CENT},
        {"kind": "plan", "name": "plan", "nodes": {"a": [], "b": ["a"]}, "walked": [], "gate": "gate"},
        {"kind": "call", "status": 202, "answer": {"run_id": RUN}, "plan": "plan", "key": "l"},
        fact(100, "RUN_QUEUED"),
        fact(100.1, "RUN_STARTED"),
        fact(100.2, "NODE_STARTED", "a"),
        fact(100.5, "NODE_REVIEWING", "a", output_preview=result(35, 1)),
        *verdict(101, "a", 1, 35, "auto", "revise"),
        fact(101.2, "NODE_REQUEUED", "a"),
        fact(101.3, "NODE_STARTED", "a", 2),
        fact(101.6, "NODE_REVIEWING", "a", 2, output_preview=result(35, 2)),
        *verdict(102, "a", 2, 35, "auto", "hold"),
        fact(102.2, "NODE_PAUSED", "a", 2, reasons=["verdict"]),
        {"kind": "waiting", "run": RUN, "node": "a", "needs_attention": True, "items": [why]},
        person_says(85, 2, 103),
        *verdict(103.1, "a", 2, 85, "human", "release"),
        fact(103.3, "NODE_COMPLETED", "a", 2, output_preview=result(35, 2)),
        person_says(20, 2, 103.4),
        *verdict(103.5, "a", 2, 20, "human", "hold"),
        fact(103.6, "NODE_PAUSED", "a", 2, reasons=["verdict"]),
        person_says(85, 2, 103.7),
        *verdict(103.8, "a", 2, 85, "human", "release"),
        fact(103.9, "NODE_COMPLETED", "a", 2, output_preview=result(35, 2)),
        fact(104, "NODE_STARTED", "b"),
        fact(104.5, "NODE_REVIEWING", "b", output_preview=result(90, 3)),
        *verdict(105, "b", 1, 90, "auto", "release"),
        fact(105.2, "NODE_COMPLETED", "b", output_preview=result(90, 3)),
        {"kind": "call", "method": "POST", "status": 202, "answer": {"attempt": 2}} | rerun,
        fact(105.3, "NODE_RERUN_ASKED", "b", by="olga, admin (request 1)"),
        fact(105.4, "NODE_REQUEUED", "b"),
        fact(105.5, "NODE_STARTED", "b", 2),
        fact(105.8, "NODE_REVIEWING", "b", 2, output_preview=result(90, 4)),
        *verdict(106, "b", 2, 90, "auto", "release"),
        fact(106.2, "NODE_COMPLETED", "b", 2, output_preview=result(90, 4)),
        fact(106.3, "RUN_COMPLETED"),
        *(call(1, "a", 100.3), call(2, "a", 101.4), call(3, "b", 104.1), call(4, "b", 105.6)),
        *(review(1, 35, "a", 100.6), review(2, 35, "a", 101.7), review(3, 90, "b", 104.6), review(4, 90, "b", 105.9)),
        {"kind": "run", "id": RUN, "status": "completed", "error": None, "nodes": {"a": "completed", "b": "completed"}},
        {"kind": "books", "run": RUN, "calls": 8, "cost": 8 * CENT, "estimated": 0},
        feedback("f1", "a", 1, "auto", 35),
        feedback("f2", "a", 2, "auto", 35, in_force=False),
        feedback("f3", "a", 2, "human", 85),
        *(feedback("f4", "b", 1, "auto", 90), feedback("f5", "b", 2, "auto", 90)),
        *(node("a", 2, "f3"), node("b", 2, "f5")),
    ]


def wrongs(records: list[Record]) -> Iterator[str]:
    history = History(records)
    for rule in RULES:
        for what in rule(history):
            yield f"{rule.__name__}: {what}"


Plant = Callable[[list[Record]], None]


def add(*more: Record) -> Plant:
    return lambda records: records.extend(more)


def change(kind: str, at: int = 0, **fields: Any) -> Plant:
    return lambda records: [r for r in records if r["kind"] == kind][at].update(fields)


def drop(kind: str, at: int = 0) -> Plant:
    return lambda records: records.remove([r for r in records if r["kind"] == kind][at])


def told(level: str, at: int = 0, **body: Any) -> Plant:
    return lambda records: [r for r in records if r.get("level") == level][at]["body"].update(body)


def untold(level: str, at: int = 0) -> Plant:
    return lambda records: records.remove([r for r in records if r.get("level") == level][at])


def test_a_history_in_which_verdicts_are_heeded_breaks_no_rule() -> None:
    assert list(wrongs(sound())) == []


WRONGS: dict[str, tuple[Plant, str]] = {
    "a result that counts and was never judged": (drop("review", 2), "nothing_counts_without_its_verdict"),
    "a result that counts and was found poor": (change("review", 3, grade=35), "nothing_counts_without_its_verdict"),
    "a result that counts before it is judged": (
        change("review", 2, began=105.3),
        "nothing_counts_without_its_verdict",
    ),
    "a result that counts by the verdict on another attempt": (
        told("NODE_COMPLETED", 3, output_preview=result(35, 9)),
        "nothing_counts_without_its_verdict",
    ),
    "a person who meant another attempt": (
        lambda records: [r.update(attempt=1) for r in records if r.get("judges")] and None,
        "nothing_counts_without_its_verdict",
    ),
    "a result that is judged twice": (
        add(*verdict(105.05, "b", 1, 90, "auto", "release")),
        "each_result_is_judged_once: attempt 1 of b of run run-1 has 2 automatic feedbacks",
    ),
    "a result that nobody judges": (untold("FEEDBACK_GIVEN", 6), "each_result_is_judged_once"),
    "a feedback that is told and not shown": (drop("feedback", 4), "are told, 0 are shown"),
    "a feedback that is shown twice": (
        add(feedback("f9", "b", 2, "auto", 90, in_force=False)),
        "is shown with 2 automatic feedbacks",
    ),
    "a score that is not the judge's": (told("FEEDBACK_GIVEN", 5, score=70), "and its feedback says 70"),
    "a call while what it needs is held": (add(call(5, "b", 103.0)), "a_held_result_is_not_built_upon"),
    "a call while what it needs is judged": (add(call(5, "b", 101.8)), "a_held_result_is_not_built_upon"),
    "a judge asked again for nothing": (add(review(3, 90, "b", 104.7)), "reviews_are_bounded"),
    "two attempts that follow by themselves": (
        told("VERDICT_GIVEN", 1, effect="revise"),
        "reviews_are_bounded: 2 attempts of a",
    ),
    "a call in nobody's books": (change("books", calls=7, cost=7 * CENT), "runs_cost_what_was_called: 1 calls"),
    "a call booked twice": (change("books", calls=9, cost=9 * CENT), "is charged 9 calls"),
    "an estimate beyond what a call can cost": (
        change("books", calls=9, cost=14 * CENT, estimated=1),
        "1 of them estimated",
    ),
    "another price": (change("books", cost=7.5 * CENT), "runs_cost_what_was_called"),
    "a verdict nobody obeys": (change("node", 0, verdict="f2"), "and another is obeyed"),
    "a node that does not do what its verdict wants": (change("node", 1, status="paused"), "is paused, its verdict is"),
    "a hold without a reason": (change("waiting", items=[]), "whoever_waits_says_why"),
    "a run that hides that it waits": (change("waiting", needs_attention=False), "whoever_waits_says_why"),
    "a rerun that is not told": (untold("NODE_RERUN_ASKED"), "is told 0 times"),
    "a rerun that nothing follows": (change("call", -1, answer={"attempt": 3}), "and nothing followed"),
    "a completion told again without a hold": (untold("NODE_PAUSED", 1), "each_effect_happens_once"),
    "a completion of another attempt than the one judged": (
        told("NODE_COMPLETED", 2, attempt=2),
        "only_legal_moves: run run-1: NODE_COMPLETED of b for attempt 2, the current one is 1",
    ),
    "one author's call too many": (add(call(5, "a", 101.5)), "model_calls_are_bounded"),
    "a call for what counts": (add(call(5, "b", 106.4)), "nothing_finished_is_repeated"),
}


@pytest.mark.parametrize("wrong", WRONGS)
def test_the_rules_name(wrong: str) -> None:
    plant, named = WRONGS[wrong]
    records = copy.deepcopy(sound())
    plant(records)
    found = list(wrongs(records))
    assert any(named in what for what in found), found


def test_a_lost_reviewer_may_cost_what_was_in_flight_and_no_more() -> None:
    lost = {"kind": "fault", "name": "kill feedback", "executors": 0, "reviewers": 1}
    again = review(3, 90, "b", 104.7)
    assert list(wrongs([*sound(), lost, again])) == []
    assert any("reviews_are_bounded" in what for what in wrongs([*sound(), lost, again, again]))


def test_what_was_overtaken_need_not_be_judged_any_more() -> None:
    records = sound()
    given = [r for r in records if r.get("level") in ("FEEDBACK_GIVEN", "VERDICT_GIVEN") and r["body"]["key"] == "b"]
    for record in given[:2]:
        records.remove(record)
    assert not any("has 0 automatic feedbacks" in what for what in wrongs(records))


def asked(model: str, user: str, number: int = 7) -> Call:
    return Call(number=number, path="/v1/chat/completions", model=model, user=user)


def test_authors_number_their_results_and_the_judge_gives_what_the_last_one_asks_for() -> None:
    server, told_so = ModelServer(), "slow:0.1 learns:80 say:grade:35 the work\n## More"
    first = server._behaviour(asked("fake-1", told_so))
    assert first.text == "grade:35 the work #7"
    assert unnumbered(first.text) == "grade:35 the work"
    corrected = server._behaviour(asked("fake-1", f"{told_so}\n## What a review found wrong with attempt 1", 8))
    assert corrected.text == "grade:80 the work #8"
    judged = server._behaviour(asked(JUDGE, f"ponders:0.2 {told_so}\n## Result to review\n{first.text}"))
    assert (judged.output["overall_score"], judged.output["decision"], judged.first_token_s) == (35, "revise", 0.2)
    assert judged_result(f"{first.text}\n{corrected.text}") == (80, 8)
    assert unnumbered("an answer #7") == "an answer #7", "only results are numbered"


def test_a_call_that_was_cut_off_may_be_charged_with_the_most_it_can_have_cost() -> None:
    cut_off = call(9, "b", 105.65, outcome="disconnected", status=None)
    fault = {"kind": "fault", "name": "kill executor", "executors": 1}
    records = [*sound(), fault, cut_off]
    change("books", calls=9, cost=13 * CENT, estimated=1)(records)
    assert list(wrongs(records)) == []
