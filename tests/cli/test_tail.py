"""`tail` against a real server that is restarted, wiped and careful about permissions."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import nats
import pytest
from nats.aio.msg import Msg
from nats.errors import Error

from chassis.keeper import Keeper
from chassis.testing.eventually import eventually
from chassis.testing.servers import NatsServer
from contracts.envelope import Envelope
from contracts.permissions import CLI
from contracts.run_facts import NodeStarted, NodeToken
from deploy.local.environment import CHECKOUT
from fluidcrew import ending
from fluidcrew.bus import connected
from fluidcrew.ending import canceled_by_signals
from fluidcrew.exits import Exit
from fluidcrew.listening import live_messages
from fluidcrew.since import Since, parse_since
from fluidcrew.tailing import Tail
from tests.cli.conftest import Cli

pytestmark = pytest.mark.asyncio

RUN = UUID("3f2a91c0-5b1d-4c3e-9a77-0c6f2b1d8e90")
Heard = list[str]  # keys, in the order in which they were handed out


class Publisher:
    """Tells facts as the executor does; a fact may be told again under its id."""

    def __init__(self, server: NatsServer) -> None:
        self._server = server
        self._ids: dict[str, UUID] = {}

    async def tell(self, *keys: str, company: str = "default", run: UUID = RUN) -> None:
        nc = await nats.connect(self._server.url("executor"), inbox_prefix=b"_INBOX_executor")
        for key in keys:
            fact = NodeStarted(company=company, run_id=run, node_id=uuid4(), key=key, attempt=1, title=f"Do {key}")
            envelope = Envelope.of(fact, id=self._ids.setdefault(key, uuid4()), source="executor")
            await nc.jetstream().publish(fact.subject, fact.model_dump_json().encode(), headers=envelope.headers())
        await nc.close()

    async def say(self, *texts: str) -> None:
        """Tokens, live: whoever is not there misses them."""
        nc = await nats.connect(self._server.url("executor"), inbox_prefix=b"_INBOX_executor")
        for index, text in enumerate(texts):
            token = NodeToken(run_id=RUN, node_id=uuid4(), key="a", attempt=1, index=index, text=text)
            await nc.publish(token.subject, token.model_dump_json().encode())
        await nc.close()


@pytest.fixture
def publisher(nats_server: NatsServer, keeper: Keeper) -> Publisher:
    return Publisher(nats_server)


Listen = Callable[..., AbstractAsyncContextManager[Heard]]


@pytest.fixture
def listening(nats_server: NatsServer, keeper: Keeper) -> Listen:
    """The keys a tail hands out while the block lasts."""

    @asynccontextmanager
    async def listen(since: Since | None = None, *filters: str) -> AsyncIterator[Heard]:
        heard: Heard = []

        async def read(tail: Tail) -> None:
            async for received in tail.read():
                heard.append(json.loads(received.data)["key"])

        async with connected(nats_server.url(CLI), CLI) as nc:
            tail = Tail(nc, "EVENTS", filters or ("evt.>",), since)
            await tail.start()
            reading = asyncio.create_task(read(tail))
            try:
                yield heard
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    return listen


async def test_only_what_happens_from_now_on_is_heard(publisher: Publisher, listening: Listen) -> None:
    await publisher.tell("before")
    async with listening() as heard:
        await publisher.tell("a", "b")
        await eventually(lambda: heard == ["a", "b"])


async def test_since_replays_and_then_goes_on(publisher: Publisher, listening: Listen) -> None:
    await publisher.tell("a", "b", "c")
    async with listening(parse_since("10m")) as by_time, listening(Since(sequence=2)) as by_sequence:
        await publisher.tell("d")
        await eventually(lambda: by_time == ["a", "b", "c", "d"])
        await eventually(lambda: by_sequence == ["b", "c", "d"])
    async with listening(Since(at=datetime.now(UTC))) as nothing:
        await publisher.tell("e")
        await eventually(lambda: nothing == ["e"])


async def test_a_filter_hears_its_company_and_its_run_only(publisher: Publisher, listening: Listen) -> None:
    other = uuid4()
    filters = (f"evt.acme.*.*.*.{RUN}", f"evt.acme.*.*.*.{other}")
    async with listening(None, filters[0]) as one, listening(None, *filters) as two:
        await publisher.tell("default's")
        await publisher.tell("other run", company="acme", run=other)
        await publisher.tell("mine", company="acme")
        await eventually(lambda: two == ["other run", "mine"])
        await eventually(lambda: one == ["mine"])


async def test_a_restart_of_the_broker_costs_no_fact_and_repeats_none(
    nats_server: NatsServer, publisher: Publisher, listening: Listen
) -> None:
    expected = []
    async with listening() as heard:
        for round in range(3):
            keys = [f"{round}-{number}" for number in range(40)]
            await publisher.tell(*keys[:20])
            nats_server.restart()
            await publisher.tell(*keys[20:])
            expected += keys
        await eventually(lambda: len(heard) >= len(expected))
        await publisher.tell("last")
        await eventually(lambda: heard[-1] == "last")
        assert heard == [*expected, "last"]


async def test_a_broker_that_lost_its_disk_is_listened_to_again_and_repeats_nothing(
    nats_server: NatsServer, keeper: Keeper, publisher: Publisher, listening: Listen
) -> None:
    await publisher.tell("long ago")
    async with listening() as heard:
        await publisher.tell("a", "b")
        await eventually(lambda: heard == ["a", "b"])
        nats_server.wipe()
        await eventually(_applied(keeper))
        await publisher.tell("long ago again", "a", "b", "c")  # the owners' outboxes tell again what is missing
        await eventually(lambda: heard[-1] == "c")
        assert heard == ["a", "b", "long ago again", "c"]


def _applied(keeper: Keeper) -> Callable[[], object]:
    async def apply() -> bool:
        await keeper.apply()
        return True

    return apply


async def test_a_stream_that_was_deleted_is_listened_to_as_soon_as_it_is_back(
    nats_server: NatsServer, keeper: Keeper, publisher: Publisher, listening: Listen
) -> None:
    async with listening() as heard:
        await publisher.tell("a")
        await eventually(lambda: heard == ["a"])
        await (await keeper.connect()).delete_stream("EVENTS")
        await keeper.apply()
        await publisher.tell("b")
        await eventually(lambda: heard == ["a", "b"])


async def test_many_facts_come_in_order_and_once(publisher: Publisher, listening: Listen) -> None:
    keys = [str(number) for number in range(3000)]
    await publisher.tell(*keys)
    async with listening(Since(sequence=1)) as heard:
        await eventually(lambda: len(heard) >= len(keys))
        assert heard == keys


# the command itself ---------------------------------------------------------------------------------------------------


async def test_a_tail_that_nobody_reads_any_more_ends_quietly(
    nats_server: NatsServer, publisher: Publisher, tmp_path: Path
) -> None:
    await publisher.tell("a", "b", "c")
    script = f"{sys.executable} -m fluidcrew tail --since 1 | head -1; echo ${{PIPESTATUS[0]}}"
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        cwd=CHECKOUT,
        env={
            "PATH": "/usr/bin:/bin",
            "NATS_URL": nats_server.url(CLI),
            "FLUIDCREW_HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    await asyncio.sleep(0)
    out, err = await asyncio.wait_for(_with_news(process, publisher), 60)
    assert out.splitlines()[0].endswith("default node.started       3f2a91c0 a  Do a")
    assert (out.splitlines()[-1], err) == ("0", "")


async def _with_news(process: asyncio.subprocess.Process, publisher: Publisher) -> tuple[str, str]:
    """A writer learns that its reader has left when it writes."""
    ended = asyncio.create_task(process.communicate())
    number = 0
    while not ended.done():
        await publisher.tell(f"more-{number}")
        number += 1
        await asyncio.wait({ended}, timeout=0.1)
    out, err = await ended
    return out.decode(), err.decode()


async def test_facts_and_tokens_are_told_as_lines_until_somebody_interrupts(
    nats_server: NatsServer, publisher: Publisher, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "fluidcrew", "tail", "--tokens", "--run", str(RUN)),
        cwd=CHECKOUT,
        env={"NATS_URL": nats_server.url(CLI), "FLUIDCREW_HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    told: list[str] = []

    async def heard(text: str) -> bool:
        await publisher.tell(f"news-{uuid4().hex[:6]}")
        await publisher.say("Hello ", "world\n")
        line = await asyncio.wait_for(process.stdout.readline(), 1)  # type: ignore[union-attr]
        told.append(line.decode())
        return any(text in line for line in told)

    await eventually(lambda: heard("Do news-"))
    await eventually(lambda: heard("a │ Hello world"))
    process.send_signal(signal.SIGINT)
    await process.communicate()
    assert process.returncode == Exit.OK


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
async def test_a_tail_that_is_told_to_end_leaves_nothing_on_the_server(
    nats_server: NatsServer, keeper: Keeper, publisher: Publisher, tmp_path: Path, number: signal.Signals
) -> None:
    js = await keeper.connect()

    async def listeners() -> list[str]:
        return [found.name for found in await js.consumers_info("EVENTS") if not found.config.durable_name]

    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "fluidcrew", "tail"),
        cwd=CHECKOUT,
        env={"NATS_URL": nats_server.url(CLI), "FLUIDCREW_HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests may run under nohup
    )
    await eventually(listeners, what="the tail's consumer")
    process.send_signal(number)
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert err == b""
    assert process.returncode == (-number if number is signal.SIGKILL else Exit.OK)

    async def gone() -> bool:
        return not await listeners()

    await eventually(gone, what="the end of its consumer")


async def test_whoever_swallows_the_first_cancellation_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "INSIST_AFTER", 0.05)
    swallowed: list[str] = []

    async def deaf() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.append("once")
        await asyncio.Event().wait()

    async def command() -> None:
        with canceled_by_signals():
            async with asyncio.TaskGroup() as together:
                together.create_task(deaf())
                asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)

    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await asyncio.create_task(command())
    assert swallowed == ["once"]


async def test_an_interruption_that_comes_together_with_a_message_is_not_lost(
    nats_server: NatsServer, keeper: Keeper
) -> None:
    async with connected(nats_server.url(CLI), CLI) as nc:

        async def listen() -> None:
            async for _ in live_messages(nc, "live.>"):
                continue

        listening = asyncio.create_task(listen())
        (subscription,) = await eventually(lambda: [s for s in nc._subs.values() if s._pending_next_msgs_calls])
        subscription._pending_queue.put_nowait(Msg(nc, "live.default.executor.node.token.x", data=b"{}"))
        listening.cancel()
        ended, _ = await asyncio.wait({listening}, timeout=10)
        assert ended


async def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with canceled_by_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


async def test_json_lines_hold_everything(
    cli: Cli, nats_server: NatsServer, publisher: Publisher, tmp_path: Path
) -> None:
    await publisher.tell("a")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "fluidcrew", "tail", "--since", "1", "--json"),
        cwd=CHECKOUT,
        env={"NATS_URL": nats_server.url(CLI), "FLUIDCREW_HOME": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    record = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
    process.kill()
    await process.wait()
    assert record["subject"] == f"evt.default.executor.node.started.{RUN}"
    assert record["sequence"] == 1
    assert record["headers"]["ce-type"] == "executor.node.started"
    assert record["data"]["title"] == "Do a"


async def test_what_the_bus_does_not_let_us_hear_is_said(cli: Cli, nats_server: NatsServer, keeper: Keeper) -> None:
    for subject in ("dlq.>", "rpc.>", "cmd.>"):
        ended = await cli("tail", "--subject", subject, NATS_URL=nats_server.url(CLI))
        assert ended.code == Exit.REFUSED
        assert "does not let its user `cli` listen there" in ended.err
        assert len(ended.err.splitlines()) == 1


async def test_a_wrong_password_is_told_from_a_bus_that_is_not_there(cli: Cli, nats_server: NatsServer) -> None:
    wrong = nats_server.url(CLI).replace("cli:", "cli:not")
    ended = await cli("tail", NATS_URL=wrong)
    assert ended.code == Exit.REFUSED
    assert "refuses the login" in ended.err
    assert "not" + nats_server.url(CLI).split(":")[2].split("@")[0] not in ended.err


async def test_a_bus_without_our_streams_says_what_makes_them(cli: Cli, nats_server: NatsServer) -> None:
    ended = await cli("tail", NATS_URL=nats_server.url(CLI))
    assert ended.code == Exit.UNREACHABLE
    assert "fluidcrew bus apply" in ended.err


async def test_closing_towards_a_dead_server_is_no_failure(nats_server: NatsServer) -> None:
    async with connected(nats_server.url(CLI), CLI) as nc:
        nats_server.kill()
        with pytest.raises((Error, TimeoutError)):
            await nc.request("$JS.API.INFO", b"", timeout=0.3)
