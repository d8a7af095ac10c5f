"""Our half of the comparison, on real servers: what its clock covers, and what it leaves behind."""

from __future__ import annotations

from bench import store
from bench.ground import ground
from bench.ours import chain, order, ourselves

COUNTS = """select status, count(*)::int as runs, sum((select count(*) from nodes n
    where n.run_id = runs.id and n.status = runs.status))::int as nodes from runs group by status order by status"""


async def test_a_backlog_waits_for_its_release_and_every_node_of_it_runs() -> None:
    async with ground() as here, ourselves(here) as ours:
        template = await ours.finished()
        before = (await ours.connection.fetch(COUNTS))[0]
        waiting = await store.commit_backlog(ours.connection, template, 5)
        await ours.chain(3, 0.0)  # executors are at work, and leave the backlog alone
        counts = {row["status"]: (row["runs"], row["nodes"]) for row in await ours.connection.fetch(COUNTS)}
        assert counts == {"completed": (before["runs"] + 1, before["nodes"] + 3), "queued": (5, 50)}

        began = await store.release(ours.connection, waiting)
        full = await ours.full(5, 0.0)  # rings, and finds those others due as well
        assert full.seconds > 0
        assert full.cpu > 0
        assert await store.last_completion(ours.connection, waiting) > began
        after = {row["status"]: (row["runs"], row["nodes"]) for row in await ours.connection.fetch(COUNTS)}
        assert after == {"completed": (before["runs"] + 11, before["nodes"] + 103)}
        latency = (await ours.idle(1, 0.0))[0]
        assert 0 < latency < 10

        await store.fill(ours.connection, template, 200)
        filled = await ours.connection.fetchrow("select count(*) as n, count(distinct run_id) as runs from attempts")
        assert filled["n"] >= 2000
        assert filled["runs"] >= 200 + before["runs"]
        assert (await ours.full(3, 0.0)).runs == 3


def test_a_chain_is_a_chain() -> None:
    assert [node.deps for node in order(chain(3)).nodes] == [[], ["s0"], ["s1"]]
