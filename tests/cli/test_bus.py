"""`bus apply`, `verify` and `info` against a real server."""

from __future__ import annotations

import pytest
from nats.js.api import StreamConfig

from chassis.keeper import Keeper
from chassis.testing.servers import NatsServer
from contracts.permissions import CLI
from contracts.streams import CONSUMERS, STREAMS
from fluidcrew.exits import Exit
from tests.cli.conftest import Cli

pytestmark = pytest.mark.asyncio


async def test_applying_says_what_it_made_and_then_that_nothing_is_missing(cli: Cli, nats_server: NatsServer) -> None:
    first = await cli("bus", "apply", NATS_URL=nats_server.url())
    made = {f"stream {spec.name} created" for spec in STREAMS} | {
        f"consumer {spec.durable} created" for spec in CONSUMERS
    }
    assert (first.code, set(first.out.splitlines())) == (Exit.OK, made)
    again = await cli("bus", "apply", NATS_URL=nats_server.url())
    assert again.out == "everything is as defined; nothing changed\n"
    verified = await cli("bus", "verify", NATS_URL=nats_server.url())
    assert (verified.code, verified.out) == (Exit.OK, "everything is as defined\n")


async def test_verifying_names_each_difference_and_changes_nothing(cli: Cli, nats_server: NatsServer) -> None:
    keeper = Keeper(nats_server.url())
    await keeper.apply()
    js = await keeper.connect()
    await js.update_stream(StreamConfig(name="DLQ", subjects=["dlq.>"], max_bytes=1024 * 1024))
    await js.delete_consumer("EVENTS", "planner-runs")
    for _ in range(2):
        ended = await cli("bus", "verify", NATS_URL=nats_server.url())
        assert ended.code == Exit.FAILED
        assert "consumer planner-runs: expected to exist, found nothing" in ended.out.splitlines()
        assert any(line.startswith("stream DLQ max_bytes: expected") for line in ended.out.splitlines())
        assert "fluidcrew bus apply" in ended.err
    await keeper.close()
    repaired = await cli("bus", "apply", NATS_URL=nats_server.url())
    assert {"stream DLQ updated", "consumer planner-runs created"} <= set(repaired.out.splitlines())


async def test_information_shows_streams_and_who_lags(cli: Cli, nats_server: NatsServer) -> None:
    empty = await cli("bus", "info", NATS_URL=nats_server.url())
    assert empty.code == Exit.FAILED
    assert "fluidcrew bus apply" in empty.err
    keeper = Keeper(nats_server.url())
    await keeper.apply()
    for number in range(3):
        await (await keeper.connect()).publish(f"evt.default.planner.task.created.t{number}", b"{}")
    await keeper.close()
    ended = await cli("bus", "info", NATS_URL=nats_server.url())
    rows = {line.split()[0]: line.split() for line in ended.out.splitlines() if line.strip()}
    assert rows["EVENTS"][1] == "3"
    assert "1-3" in rows["EVENTS"]
    assert rows["gateway-timeline"][1:4] == ["EVENTS", "3", "0"]


async def test_a_user_without_the_rights_is_told_whose_are_needed(cli: Cli, nats_server: NatsServer) -> None:
    ended = await cli("bus", "apply", NATS_URL=nats_server.url(CLI))
    assert ended.code in (Exit.UNREACHABLE, Exit.REFUSED)
    assert "KEEPER_NATS_URL" in ended.err
    assert len(ended.err.splitlines()) == 1
