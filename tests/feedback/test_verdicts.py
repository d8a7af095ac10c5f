"""From a result to its verdict, by code alone; and what people say of it, at once or one after the other."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.service import Chassis
from chassis.testing.eventually import eventually
from chassis.testing.refusing import refused
from contracts import feedback
from contracts.errors import Code, Rejection
from contracts.executor import NodeStatus
from contracts.feedback import FeedbackCritical, FeedbackGiven, GetFeedback, GetQaReport, ListFeedbacks
from contracts.message import Event
from contracts.plan import Gate
from contracts.scope import Scope
from contracts.verdict import Decision, Effect, Source
from tests.feedback.conftest import GOOD, World, a_case, giving, next_attempt, reviewing

NOT_JSON = {"params": {"output_format": "json"}}


async def told(chassis: Chassis, kind: type[Event]) -> list[Any]:
    rows = await chassis.pool.fetch(
        "select body from outbox where subject like $1 order by batch, id", kind.pattern().replace("*", "%")
    )
    return [kind.model_validate_json(row["body"]) for row in rows]


async def test_a_good_result_is_released_and_a_bad_one_revised_once_then_held(world: World) -> None:
    async with world.start_feedback() as chassis:
        good, bad = a_case(), a_case("no JSON at all", **NOT_JSON)
        verdict = await world.judged(good)
        assert (verdict.effect, verdict.decision, verdict.critical, verdict.score) == (
            Effect.RELEASE,
            "accept",
            False,
            100,
        )
        first = await world.judged(bad)
        assert (first.effect, first.decision, first.critical) == (Effect.REVISE, Decision.REVISE, True)
        assert "not valid json" in (first.critique or "")
        second = await world.judged(next_attempt(bad))
        assert (second.effect, second.decision, second.version) == (Effect.HOLD, Decision.REVISE, 1)
        critical = await told(chassis, FeedbackCritical)
        assert [(f.attempt, f.threshold, f.failed_criteria) for f in critical] == [
            (1, 60, ["format"]),
            (2, 60, ["format"]),
        ]
        given = await told(chassis, FeedbackGiven)
        assert [f.review_unavailable for f in given] == ["no model reviews here: FEEDBACK_REVIEWER=none"] * 3
        (kept,) = await world.feedbacks(good)
        assert (kept.in_force, kept.threshold, kept.reviewer, kept.request_id) == (True, 60, "code checks", "test")
        assert {c["name"] for c in kept.evaluation["criteria"]} == {"not empty", "no refusal"}


async def test_a_revision_that_lapsed_does_not_count(live: World) -> None:
    bad = a_case("no JSON at all", **NOT_JSON)
    assert (await live.judged(bad)).effect is Effect.REVISE
    live.executor.verdicts.clear()  # the node had moved on: nothing came of it
    assert (await live.judged(next_attempt(bad))).effect is Effect.REVISE
    assert (await live.judged(next_attempt(next_attempt(bad)))).effect is Effect.HOLD


@pytest.mark.parametrize("gate", [Gate.OBSERVE, Gate.OFF])
async def test_where_the_gate_only_observes_a_review_holds_nothing_back_and_a_person_does(
    live: World, gate: Gate
) -> None:
    case = a_case("", gate=gate)
    verdict = await live.judged(case)
    assert (verdict.effect, verdict.critical, verdict.score) == (Effect.NOTE, True, 0)
    await live.give(case, 20)
    assert (await live.verdict(case, 2)).effect is Effect.HOLD


async def test_a_person_outranks_a_review_in_both_directions(live: World) -> None:
    bad, good = a_case(""), a_case()
    await asyncio.gather(live.judged(bad), live.judged(good))
    released = await live.give(bad, 90, comment="the empty page is the point")
    held = await live.give(good, 35, comment="wrong sea")
    assert (released.decision, released.critical, held.decision, held.critical) == ("accept", False, "reject", True)
    one, other = await live.verdict(bad, 2), await live.verdict(good, 2)
    assert (one.effect, one.source, one.reviewer) == (Effect.RELEASE, Source.HUMAN, "ann")
    assert (other.effect, other.critique) == (Effect.HOLD, "wrong sea")
    assert [f.in_force for f in await live.feedbacks(good)] == [False, True]


async def test_a_review_that_comes_after_a_person_is_recorded_and_changes_nothing(world: World) -> None:
    case = a_case("")
    async with world.start_feedback() as chassis:
        world.executor.cases[case.node_id, case.attempt] = case
        await world.give(case, 80)
        await world.executor.tell(case)
        review = await world.review(case)
        assert (review.critical, review.in_force) == (True, False)
        assert [f.source for f in await told(chassis, FeedbackGiven)] == [Source.HUMAN, Source.AUTO]
        assert await told(chassis, FeedbackCritical) == []
        await world.verdict(case)
        assert [v.source for v in world.executor.verdicts_on(case)] == [Source.HUMAN]


async def test_a_comment_without_a_score_is_no_verdict(live: World) -> None:
    case = a_case()
    await live.judged(case)
    said = await live.give(case, None, comment="nice", metadata={"from": "slack"})
    assert (said.decision, said.threshold, said.in_force, said.metadata) == (None, None, False, {"from": "slack"})
    assert [f.in_force for f in await live.feedbacks(case)] == [True, False]
    assert await live.ask(GetFeedback(feedback_id=said.id)) == said


async def test_of_two_people_at_once_one_wins_and_the_other_is_shown_what_holds_now(live: World) -> None:
    case = a_case()
    seen = (await live.judged(case)).feedback_id
    at_once = [giving(case, score, seen=seen, reviewer=who) for who, score in (("ann", 90), ("bob", 10))]
    answers = await asyncio.gather(*(live.ask(given) for given in at_once), return_exceptions=True)
    (winner,) = [a for a in answers if not isinstance(a, BaseException)]
    (loser,) = [a.failure for a in answers if isinstance(a, Rejection)]
    assert (loser.code, loser.details["current"]["id"]) == (Code.VERDICT_TAKEN, str(winner.id))
    assert (await live.verdict(case, 2)).feedback_id == winner.id
    again = await live.give(case, 50, seen=UUID(loser.details["current"]["id"]), reviewer="bob")
    assert (await live.verdict(case, 3)).feedback_id == again.id
    assert len(live.executor.verdicts_on(case)) == 3


async def test_without_seen_a_person_loses_only_to_one_who_came_in_meanwhile(live: World) -> None:
    case = a_case()
    live.executor.knows(case)
    before = datetime.now(UTC) - timedelta(seconds=5)
    await live.give(case, 70)
    async with refused(Code.VERDICT_TAKEN) as caught:
        await live.give(case, 10, asked_at=before)
    assert caught.value.failure.details["current"]["score"] == 70
    assert (await live.give(case, 10, asked_at=datetime.now(UTC) + timedelta(seconds=1))).in_force


async def test_who_has_seen_an_older_attempt_does_not_release_the_newer_one(live: World) -> None:
    case = a_case()
    seen = (await live.judged(case)).feedback_id
    live.executor.knows(next_attempt(case))
    async with refused(Code.VERDICT_TAKEN) as caught:
        await live.give(case, 90, attempt=None, seen=seen)
    assert caught.value.failure.details == {"current": None}
    assert len(live.executor.verdicts_on(case)) == 1


async def test_the_same_order_twice_is_one_feedback_even_at_another_time(live: World) -> None:
    case = a_case()
    live.executor.knows(case)
    given = giving(case, 40)
    first = await live.ask(given)
    assert await live.ask(given.model_copy(update={"asked_at": datetime.now(UTC)})) == first
    assert len(await live.feedbacks(case)) == 1


async def test_the_longest_comment_there_may_be_still_travels(live: World) -> None:
    case = a_case()
    live.executor.knows(case)
    given = await live.give(case, 10, comment="🌊" * 20_000)
    assert len(given.comment or "") == 20_000
    assert len((await live.verdict(case)).critique or "") == 12_000


async def test_what_is_not_there_or_has_no_result_cannot_be_judged(live: World) -> None:
    case = a_case()
    async with refused(Code.NOT_FOUND):
        await live.give(case, 50)
    live.executor.knows(case, waiting := a_case(None, attempt=0, status="queued"))
    async with refused(Code.NOT_FOUND):
        await live.give(case, 50, run_id=uuid4())
    async with refused(Code.ILLEGAL_STATE):
        await live.give(waiting, 50)
    assert (await live.give(waiting, None, comment="mind the sources")).attempt == 0
    async with refused(Code.NOT_FOUND):
        await live.ask(GetFeedback(feedback_id=uuid4()))


async def test_another_company_sees_nothing(live: World) -> None:
    case = a_case()
    feedback_id = (await live.judged(case)).feedback_id
    async with refused(Code.NOT_FOUND):
        await live.ask(GetFeedback(company="acme", feedback_id=feedback_id))
    assert (await live.ask(ListFeedbacks(company="acme", node_id=case.node_id))).total == 0


async def test_the_narrowest_policy_decides(live: World) -> None:
    case = a_case()
    await live.judged(case)
    scopes = [
        ("company", "default", 90),
        ("project", "default", 40),
        ("task", str(case.task_id).upper(), 80),
        ("agent", "anna", 20),
    ]
    expected = [True, False, True, False]
    for (scope, id, threshold), critical in zip(scopes, expected, strict=True):
        await live.ask(
            feedback.SetPolicy(command_id=uuid4(), scope=scope, scope_id=id, critical_threshold=threshold, by="ann")  # type: ignore[arg-type]
        )
        given = await live.give(case, 50)
        assert (given.critical, given.threshold) == (critical, threshold), scope
    policies = await live.ask(feedback.ListPolicies())
    assert [p.scope for p in policies.items] == ["agent", "company", "project", "task"]
    gone = await live.ask(feedback.RemovePolicy(command_id=uuid4(), scope=Scope.AGENT, scope_id="anna"))
    assert gone.removed.critical_threshold == 20
    assert (await live.give(case, 50)).threshold == 80


async def test_a_policy_can_be_read_and_its_changes_are_told(world: World) -> None:
    task = str(uuid4())
    about: dict[str, Any] = {"scope": Scope.TASK, "scope_id": task.upper()}
    async with world.start_feedback() as chassis:
        async with refused(Code.NOT_FOUND):
            await world.ask(feedback.GetPolicy(**about))
        await world.ask(feedback.SetPolicy(command_id=uuid4(), critical_threshold=70, by="ann", **about))
        found = await world.ask(feedback.GetPolicy(**about))
        assert (found.scope_id, found.critical_threshold, found.set_by) == (task, 70, "ann")
        page = await world.ask(feedback.ListPolicies(scope_id=task))
        assert (page.total, page.items) == (1, [found])
        await world.ask(feedback.RemovePolicy(command_id=uuid4(), by="bea", **about))
        now, gone = await told(chassis, feedback.PolicyChanged)
        assert (now.critical_threshold, now.auto_revise, now.removed, now.by) == (70, None, False, "ann")
        assert (gone.critical_threshold, gone.removed, gone.by, gone.policy_id) == (None, True, "bea", now.policy_id)


async def test_a_policy_may_forbid_attempts_that_follow_by_themselves(live: World) -> None:
    await live.ask(feedback.SetPolicy(command_id=uuid4(), scope=Scope.AGENT, scope_id="anna", auto_revise=0))
    assert (await live.judged(a_case(""))).effect is Effect.HOLD
    assert (await live.judged(a_case("", agent_id="bea"))).effect is Effect.REVISE


@pytest.mark.parametrize(
    "wrong",
    [
        {"scope": "company", "scope_id": "acme", "critical_threshold": 50},
        {"scope": "task", "scope_id": "my task", "critical_threshold": 50},
        {"scope": "agent", "scope_id": "anna"},
    ],
    ids=["another company", "no uuid", "says nothing"],
)
async def test_a_policy_that_could_never_apply_is_refused(live: World, wrong: dict[str, object]) -> None:
    async with refused(Code.INVALID):
        await live.ask(feedback.SetPolicy.model_validate({"command_id": uuid4(), **wrong}))


async def test_lists_are_filtered_paged_and_ordered(live: World) -> None:
    one, other = a_case(), a_case("", gate=Gate.OBSERVE)
    other = other.model_copy(update={"run_id": one.run_id})
    await live.executor.tell(one, other)
    await asyncio.gather(live.verdict(one), live.verdict(other))
    await live.give(one, 90)

    async def found(**fields: object) -> list[int | None]:
        page = await live.ask(ListFeedbacks.model_validate({"run_id": one.run_id, "order_by": "score"} | fields))
        return [f.score for f in page.items]

    assert await found() == [0, 90, 100]
    assert await found(order_by="-score", limit=1, offset=1) == [90]
    assert await found(critical=True) == [0]
    assert await found(source="human") == [90]
    assert await found(node_ids=[one.node_id]) == [90, 100]
    async with refused(Code.INVALID):
        await found(order_by="password")


async def test_a_result_told_twice_is_reviewed_once(world: World) -> None:
    case = a_case()
    async with world.start_feedback() as chassis:
        await world.judged(case)
        await world.executor.tell(case)  # another message of the same content
        ahead = a_case()
        await world.judged(ahead)
        handled = "select count(*) from inbox where consumer = 'feedback-results'"
        await eventually(lambda: _is(chassis, handled, 3))
        assert await chassis.pool.fetchval("select count(*) from jobs") == 2
        assert len(await world.feedbacks(case)) == 1


async def _is(chassis: Chassis, query: str, expected: int) -> bool:
    return bool(await chassis.pool.fetchval(query) == expected)


@pytest.mark.parametrize("fate", ["moved on", "gone"])
async def test_a_result_that_nobody_waits_for_any_more_ends_without_a_verdict(world: World, fate: str) -> None:
    async with world.start_feedback() as chassis:
        case = a_case(current=False)
        await world.executor.tell(case) if fate == "moved on" else await _told_of_nothing(world, case)
        await eventually(lambda: _is(chassis, "select count(*) from jobs where state = 'done'", 1))
        assert await world.feedbacks(case) == []
        assert world.executor.verdicts == []


async def _told_of_nothing(world: World, case) -> None:
    assert world.executor.chassis is not None
    async with world.executor.chassis.uow.begin() as tx:
        tx.publish(reviewing(case))


async def test_a_result_too_large_to_travel_is_read_whole(world: World, object_store_settings: dict[str, str]) -> None:
    text = '{"tides": "' + GOOD * 1000 + '"}'
    async with world.start_feedback() as chassis:
        ref = await chassis.blobs.put(text.encode(), company="default", content_type="text/plain")
        case = a_case(text[:65_536], output_ref=ref, output_size=ref.size, **NOT_JSON)
        assert (await world.judged(case)).effect is Effect.RELEASE
        lost = a_case(text[:65_536], output_ref=ref.model_copy(update={"key": "default/nowhere"}), **NOT_JSON)
        assert (await world.judged(lost)).effect is Effect.RELEASE, "of its beginning nothing bad can be said"
        (feedback_on_it,) = await world.feedbacks(lost)
        assert "could be read" in feedback_on_it.evaluation["not_checked"][0]


@pytest.mark.parametrize("wants", [[], {}, None, 7, "whatever"])
async def test_what_people_send_as_a_decision_may_be_anything(world: World, wants: object) -> None:
    async with world.start_feedback():
        case = a_case()
        await world.judged(case)
        assert (await world.give(case, 50, evaluation={"decision": wants})).decision is Decision.REJECT


async def test_a_report_shows_named_criteria_whatever_else_was_sent_among_them(world: World) -> None:
    async with world.start_feedback():
        case = a_case()
        await world.judged(case)
        await world.give(case, 50, evaluation={"failed_criteria": [None, "sources"]})
        report = await world.ask(GetQaReport(run_id=case.run_id))
        assert report.nodes[0].failed_criteria == ["sources"]


async def test_a_result_that_does_not_fit_its_schema_is_judged_whatever_its_keys_are(world: World) -> None:
    async with world.start_feedback():
        schema = {"type": "object", "additionalProperties": {"type": "string"}}
        case = a_case('{"a\\u0000b": 1}', params={"output_format": "json", "output_schema": schema})
        assert (await world.judged(case)).critical


@pytest.mark.parametrize(
    ("status", "attempt", "checksum", "legal"),
    [
        (NodeStatus.RUNNING, 1, None, False),
        (NodeStatus.QUEUED, 0, None, False),
        (NodeStatus.PAUSED, 1, None, False),
        (NodeStatus.PAUSED, 1, "0" * 64, True),
        (NodeStatus.COMPLETED, 0, "0" * 64, True),
    ],
)
async def test_a_verdict_needs_a_result_be_it_one_that_was_taken_over(
    world: World, status: NodeStatus, attempt: int, checksum: str | None, legal: bool
) -> None:
    async with world.start_feedback():
        case = a_case(status=status, attempt=attempt, checksum=checksum)
        world.executor.knows(case)
        if legal:
            assert (await world.give(case, 20)).in_force
        else:
            with pytest.raises(Rejection) as refused:
                await world.give(case, 20)
            assert refused.value.failure.code is Code.ILLEGAL_STATE
            assert (await world.give(case, None, comment="I am looking at it")).decision is None
