"""Answers that are of no use, or of less than it seems: whoever watches is told."""

from __future__ import annotations

import json

from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from chassis.testing.outbox_table import FACT
from contracts.executor import NodeStatus, RunStatus
from tests.executor.conftest import World, agent


async def test_an_empty_answer_is_a_failed_attempt_with_the_reason(model: FakeOpenAI, live: World) -> None:
    model.script(Behaviour(text=" \n"), Behaviour(text="", finish="length"))
    run_id = await live.start(agent("a", max_attempts=2))
    await live.until(run_id, RunStatus.FAILED)

    node = (await live.nodes(run_id))["a"]
    attempts = await live.rows("select status, error from attempts where run_id = $1 order by number", run_id)

    assert (node.status, node.usage.requests) == (NodeStatus.FAILED, 2)
    assert [tuple(a) for a in attempts] == [
        ("failed", "openai/fake-1 gave an empty answer"),
        (
            "failed",
            "openai/fake-1 gave an empty answer: it was cut off at 4096 tokens; raise LLM_MAX_OUTPUT_TOKENS",
        ),
    ]
    assert node.error == attempts[1]["error"]


async def test_a_text_that_was_cut_off_is_kept_with_a_warning(model: FakeOpenAI, live: World) -> None:
    model.script(Behaviour(text="as far as it", finish="length"), Behaviour(text="whole"))
    run_id = await live.start(agent("a"), agent("b", "a"))
    assert (await live.until(run_id)).run.status is RunStatus.COMPLETED

    facts = await live.rows(
        f"select body from outbox where story = $1 and {FACT} = 'node.completed' order by sequence",
        str(run_id),
    )
    cut, whole = (json.loads(bytes(fact["body"])) for fact in facts)
    sidecars = await live.rows("select document from sidecars where run_id = $1 order by id", run_id)

    assert cut["output_preview"] == "as far as it"
    assert "LLM_MAX_OUTPUT_TOKENS" in cut["warnings"][0]
    assert whole["warnings"] == []
    assert "cut off at 4096 tokens" in json.loads(sidecars[0]["document"])["warnings"]
