"""The drill: a run of thirty nodes whose workers, gateway and broker are killed on the way, watched from outside."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from uuid import uuid4

import structlog
from rich.console import Group
from rich.text import Text

from deploy.local.environment import home_of
from deploy.local.home import is_held
from deploy.local.ports import free_port
from deploy.local.process import Child
from deploy.local.supervisor import Running, running_stack
from fluidcrew.client import Gateway
from fluidcrew.drill_view import Drilled, Strike, Strikes, final_line, report
from fluidcrew.drill_watcher import Watcher
from fluidcrew.drill_witness import Witness, model_server, nodes, verdict
from fluidcrew.exits import Exit
from fluidcrew.progress import RunView
from fluidcrew.render.redrawing import redrawn
from fluidcrew.render.run import RunProgress, RunTree, headline
from fluidcrew.render.screen import console, is_live
from fluidcrew.render.words import count
from fluidcrew.stack_log import StackLog
from fluidcrew.steps import Steps
from fluidcrew.watching import Lines, load

#: what the drill decides for itself; it stands on its own parts, since it kills them
OWN = ("NATS_URL", "DATABASE_URL", "S3_ENDPOINT_URL", "FLUIDCREW_URL", "OPENAI_BASE_URL", "OPENAI_API_KEY", "PORT")
SCALE = {"executor": 2}
TASK_EVERY = 0.5  # seconds
LOOK = 0.05
PATIENCE = 180.0  # seconds for all of it
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
        return Exit.OK if drilled.passed else Exit.FAILED

    def _silence(self) -> None:
        """The keeper runs in this process: that the broker is gone is no news on a screen that shows who killed it."""
        logging.getLogger().setLevel(logging.CRITICAL)
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))

    async def _start(self, held: AsyncExitStack, model_url: str) -> Running:
        doing = "Starting a stack of its own, and a model server that keeps a ledger"
        clear(self._home)
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
            watcher = Watcher(api, view, witness)
            async with asyncio.TaskGroup() as group:
                works = (self._strike(running, view, witness), self._create_tasks(api, witness))
                meanwhile = [group.create_task(work) for work in works]
                watching = group.create_task(self._watch(watcher))
                with suppress(TimeoutError):  # what is missing then is found out, and said, below
                    async with asyncio.timeout(PATIENCE):
                        await watcher.over.wait()
                for task in meanwhile:
                    task.cancel()
                told = await watcher.told()
                watching.cancel()
            for strike in self._strikes:  # the last one may have been over in the instant in which the run was
                strike.recovered = witness.recovered(strike.at)
            spared = [name for name, _, _ in strikes(running)][len(self._strikes) :]
            return Drilled(view, self._strikes, verdict(witness, await witness.calls(), *told), spared)

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

    async def _watch(self, watcher: Watcher) -> None:
        if is_live(self._screen):
            view = watcher.view
            shown = Group(headline(view), RunTree(view, height=0), RunProgress(view), Strikes(self._strikes))
            async with redrawn(self._screen, shown):
                await watcher.follow(None)
        else:
            await watcher.follow(Lines(self._screen))


def clear(home: Path) -> None:
    """What a drill that was interrupted has left behind would be taken for this one's."""
    if not is_held(home):
        shutil.rmtree(home, ignore_errors=True)


def strikes(running: Running) -> Sequence[tuple[str, int, Callable[[], None]]]:
    """What is killed, and after how many nodes. The gateway last: without it nobody sees how the run goes on."""

    def kill(children: Sequence[Child]) -> None:
        for child in children:
            child.signal(signal.SIGKILL)

    workers, gateways = ([p.child for p in running.of(service)] for service in ("executor", "gateway"))
    broker = [running.stack.parts["nats"].child]
    return (
        ("all workers", 4, partial(kill, workers)),
        ("the broker", 9, partial(kill, broker)),
        ("the gateway", 16, partial(kill, gateways)),
    )


def completed(view: RunView) -> int:
    return sum(node.status == "completed" for node in view.nodes.values())
