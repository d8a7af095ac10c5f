"""The drill: a run of thirty nodes whose workers, gateway and broker are killed on the way, watched from outside."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from uuid import uuid4

import structlog
from rich.console import Group
from rich.text import Text

from deploy.local.environment import home_of
from deploy.local.home import free_port
from deploy.local.process import Child
from deploy.local.supervisor import Running, running_stack
from fluidcrew.client import Gateway
from fluidcrew.drill_view import Drilled, Strike, Strikes, final_line, report
from fluidcrew.drill_witness import Verdict, Witness, model_server, nodes, verdict
from fluidcrew.exits import Exit
from fluidcrew.progress import FINAL, Happened, RunView
from fluidcrew.render.redrawing import redrawn
from fluidcrew.render.run import RunProgress, RunTree, headline
from fluidcrew.render.screen import console, is_live
from fluidcrew.render.words import count
from fluidcrew.sse import Message
from fluidcrew.stack_log import StackLog
from fluidcrew.steps import Steps
from fluidcrew.watching import Lines, load

#: what the drill decides for itself; it stands on its own parts, since it kills them
OWN = ("NATS_URL", "DATABASE_URL", "S3_ENDPOINT_URL", "FLUIDCREW_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "PORT")
SCALE = {"executor": 2}
TASK_EVERY = 0.5  # seconds
LAST_WORDS = 20.0  # seconds for the last facts to arrive
LOOK = 0.05
KEY = "drill"


def environment(environ: Mapping[str, str], model_url: str) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if name.removesuffix("_FILE") not in OWN}
    return kept | {
        "API_KEY": KEY,
        "PORT": str(free_port()),
        "PREVIEW_PORT": str(free_port()),
        "LLM_DEFAULT_PROVIDER": "openai",
        "LLM_DEFAULT_MODEL": "witness",
        "LLM_PRICES": json.dumps({"witness": {"input": 0, "output": 0}}),
        "OPENAI_BASE_URL": model_url,
        "OPENAI_API_KEY": "witness",
    }


class Drill:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._home = home_of(environ) / "drill"
        self._screen = console()
        self._steps = Steps(self._screen)
        self._strikes: list[Strike] = []

    async def run(self) -> int:
        self._silence()
        async with AsyncExitStack() as held:
            url = held.enter_context(model_server())
            running = await self._start(held, url)
            drilled = await self._drill(running, Witness(url))
            async with self._steps.step("Stopping everything", "Stopped everything", "stop"):
                await held.aclose()
        shutil.rmtree(self._home, ignore_errors=True)
        self._screen.print(report(drilled))
        self._screen.print(final_line(drilled), soft_wrap=True)
        return Exit.OK if drilled.verdict.clean else Exit.FAILED

    def _silence(self) -> None:
        """The keeper runs in this process: that the broker is gone is no news on a screen that shows who killed it."""
        logging.getLogger().setLevel(logging.CRITICAL)
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    async def _start(self, held: AsyncExitStack, model_url: str) -> Running:
        doing = "Starting a stack of its own, and a model server that keeps a ledger"
        async with self._steps.step(
            doing, "Started a stack of its own, and a model server that keeps a ledger"
        ) as step:
            log = StackLog(self._home / "logs" / "stack.log")
            held.callback(log.close)
            stack = running_stack(self._home, SCALE, environ=environment(self._environ, model_url), log=log)
            running = await held.enter_async_context(stack)
            step.detail = ", ".join(process.name for process in running.processes)
        return running

    async def _drill(self, running: Running, witness: Witness) -> Drilled:
        async with Gateway(running.api_url, KEY) as api:
            accepted = await api.post("/tasks", {"title": f"Drill {uuid4()}", "task": nodes(), "gate": "off"})
            view = await load(api, accepted["run_id"])
            async with asyncio.TaskGroup() as group:
                works = (self._strike(running, view, witness), self._create_tasks(api, witness))
                meanwhile = [group.create_task(work) for work in works]
                await self._watch(api, view, witness)
                for task in meanwhile:
                    task.cancel()
            for strike in self._strikes:  # the last one may have been over in the instant in which the run was
                strike.recovered = witness.recovered(strike.at)
            return Drilled(view, self._strikes, await self._verdict(api, view.id, witness))

    # what is done to it

    async def _strike(self, running: Running, view: RunView, witness: Witness) -> None:
        """One after the other, each in the middle of the work and after the stack got over the one before."""
        for name, at, kill in strikes(running):
            while completed(view) < at:  # noqa: ASYNC110 - the stream moves it
                await asyncio.sleep(LOOK)
            strike = Strike(name, completed(view), time.time())
            kill()
            self._strikes.append(strike)
            if not is_live(self._screen):
                self._screen.print(Text(f"--- killed {name}, with {count(strike.done, 'node')} done", style="bold red"))
            while strike.recovered is None:
                await asyncio.sleep(LOOK)
                strike.recovered = witness.recovered(strike.at)

    async def _create_tasks(self, api: Gateway, witness: Witness) -> None:
        """Somebody goes on working: every task that is accepted meanwhile must be there in the end."""
        while True:
            title = f"Idea {len(witness.accepted) + 1} {uuid4()}"
            task = await api.post("/tasks", {"title": title})
            witness.accepted[task["id"]] = title
            await asyncio.sleep(TASK_EVERY)

    # what is seen of it

    async def _watch(self, api: Gateway, view: RunView, witness: Witness) -> None:
        if is_live(self._screen):
            shown = Group(headline(view), RunTree(view, height=0), RunProgress(view), Strikes(self._strikes))
            async with redrawn(self._screen, shown):
                await self._follow(api, view, witness, None)
        else:
            await self._follow(api, view, witness, Lines(self._screen))

    async def _follow(self, api: Gateway, view: RunView, witness: Witness, lines: Lines | None) -> None:
        """Until the run is over and its task has been told so: that is the last fact of the story."""
        async for message in api.events("/events/stream", run_id=view.id):
            if message.event != "message":
                continue
            happened = self._hear(message, view, witness)
            if lines is not None:
                lines.happened(view, happened)
            if view.status in FINAL and happened.level == f"TASK_{view.status.upper()}":
                return

    def _hear(self, message: Message, view: RunView, witness: Witness) -> Happened:
        event = json.loads(message.data)
        happened = Happened.of(event)
        view.apply(happened)
        witness.hear(event, time.time())
        return happened

    async def _verdict(self, api: Gateway, run_id: str, witness: Witness) -> Verdict:
        deadline = time.monotonic() + LAST_WORDS
        while True:
            told = await api.get("/events", run_id=run_id, limit=200)
            created = await api.get("/events", level="TASK_CREATED", limit=200)
            ids = [event["task_id"] for event in created["items"]]
            if set(witness.accepted) <= set(ids) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
        return verdict(witness, await witness.calls(), [event["id"] for event in told["items"]], ids)


def strikes(running: Running) -> Sequence[tuple[str, int, Callable[[], None]]]:
    """What is killed, and after how many nodes."""

    def kill(children: Sequence[Child]) -> None:
        for child in children:
            child.signal(signal.SIGKILL)

    workers, gateways = ([p.child for p in running.of(service)] for service in ("executor", "gateway"))
    broker = [running.stack.parts["nats"].child]
    return (
        ("all workers", 4, partial(kill, workers)),
        ("the gateway", 9, partial(kill, gateways)),
        ("the broker", 16, partial(kill, broker)),
    )


def completed(view: RunView) -> int:
    return sum(node.status == "completed" for node in view.nodes.values())
