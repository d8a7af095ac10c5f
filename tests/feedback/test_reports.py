"""Reports: the verdicts on a run's nodes, and quality over time by agent, role and model."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from contracts.feedback import GetQaReport, GetQuality, ListFeedbacks, QualityRow
from contracts.plan import Gate
from tests.feedback.conftest import World, a_case, next_attempt


async def test_a_run_s_report_is_that_of_its_verdicts_in_force(live: World) -> None:
    run_id = uuid4()
    good, bad, mended = (a_case(key=key, run_id=run_id, gate=Gate.OBSERVE) for key in ("good", "bad", "mended"))
    bad, mended = (case.model_copy(update={"output": ""}) for case in (bad, mended))
    await live.executor.tell(good, bad, mended)
    await asyncio.gather(*(live.verdict(case) for case in (good, bad, mended)))
    second = next_attempt(mended, output="Now with words in it")
    await live.judged(second)
    await live.give(good, 50, evaluation={"failed_criteria": ["tone", "not empty"]})
    await live.give(good, None, comment="see my notes", evaluation={"failed_criteria": "no list"})
    report = await live.ask(GetQaReport(run_id=run_id))
    found = {node.key: (node.attempt, node.score, node.decision, node.reviews) for node in report.nodes}
    assert found == {"good": (1, 50, "reject", 2), "bad": (1, 0, "revise", 1), "mended": (2, 100, "accept", 2)}
    assert (report.average_score, report.accepted, report.revised, report.rejected) == (50.0, 1, 1, 1)
    assert (report.critical, report.reviews, report.human_reviews) == (2, 5, 1)
    assert report.failed_criteria == {"not empty": 2, "tone": 1}
    other = await live.ask(GetQaReport(run_id=uuid4()))
    assert (other.nodes, other.average_score) == ([], None)
    assert (await live.ask(GetQaReport(company="acme", run_id=run_id))).nodes == []


async def test_quality_is_counted_by_agent_role_and_model_and_in_buckets(world: World) -> None:
    async with world.start_feedback() as chassis:
        observed = {"gate": Gate.OBSERVE}
        first = a_case("", author="openai/small", role="writer", agent_id="anna", **observed)
        cases = [
            first,
            next_attempt(first, output="Better than nothing"),
            a_case(author="openai/big", role="writer", agent_id="bea", **observed),
            a_case(author="openai/big", role=None, agent_id=None, project_id="north", **observed),
        ]
        await world.executor.tell(*cases)
        await asyncio.gather(*(world.verdict(case) for case in cases))
        await world.give(cases[2], 40)

        async def rows(by: str, **fields: object) -> dict[str | None, QualityRow]:
            found = await world.ask(GetQuality.model_validate({"by": by} | fields))
            return {row.name: row for row in found.items}

        agents = await rows("agent")
        assert set(agents) == {"anna", "bea", None}
        anna, bea = agents["anna"], agents["bea"]
        assert (anna.reviews, anna.average_score, anna.accepted_first_time, anna.critical) == (2, 50.0, 0.0, 1)
        assert (bea.reviews, bea.average_score, bea.accepted_first_time, bea.human_reviews) == (1, 40.0, 0.0, 1)
        assert (await rows("role"))["writer"].reviews == 3
        models = await rows("model")
        assert (models["openai/small"].reviews, models["openai/big"].accepted_first_time) == (2, 0.5)
        assert set(await rows("agent", project="north")) == {None}
        await chassis.pool.execute(
            "update feedbacks set created_at = '2026-03-04 23:30Z' where node_id = $1 and attempt = 1", first.node_id
        )
        april = datetime(2026, 4, 1, tzinfo=UTC)
        days = await world.ask(GetQuality(by="agent", bucket="day", ts_to=april))
        assert [(row.name, row.bucket) for row in days.items] == [("anna", datetime(2026, 3, 4, tzinfo=UTC))]
        weeks = await world.ask(GetQuality(by="agent", bucket="week", ts_to=april))
        assert [row.bucket for row in weeks.items] == [datetime(2026, 3, 2, tzinfo=UTC)]
        later = await rows("agent", ts_from=datetime.now(UTC) - timedelta(hours=1))
        assert later["anna"].accepted_first_time is None, "none of its first attempts is in this time"


async def test_of_many_feedbacks_each_node_has_its_newest_and_each_attempt_the_one_in_force(live: World) -> None:
    run_id = uuid4()
    busy, quiet = (a_case(key=key, run_id=run_id) for key in ("busy", "quiet"))
    await live.judged(quiet)
    await live.judged(busy)
    for number in range(5):
        await live.give(busy, None, comment=f"comment {number}")
    given = await live.give(busy, 80)
    page = await live.ask(ListFeedbacks(run_id=run_id, per_node=2, order_by="-created_at"))
    assert (page.total, [f.node_key for f in page.items]) == (3, ["busy", "busy", "quiet"])
    assert [page.items[0].id, page.items[1].comment] == [given.id, "comment 4"]
    in_force = await live.ask(ListFeedbacks(run_id=run_id, in_force=True))
    assert {(f.node_key, f.score) for f in in_force.items} == {("busy", 80), ("quiet", 100)}
    others = await live.ask(ListFeedbacks(node_id=busy.node_id, in_force=False))
    assert others.total == 6
