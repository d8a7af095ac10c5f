"""The demo: checks, stack, task, plan, run, result and where to look next, with what each of them took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from rich.text import Text

from deploy.local.environment import home_of
from deploy.local.supervisor import Interrupted, Running, running_stack
from fluidcrew.citing import print_citations
from fluidcrew.client import Gateway
from fluidcrew.commands.doctor import require_ready
from fluidcrew.demo_knowledge import searchable, sent_documents
from fluidcrew.demo_site import opened_site
from fluidcrew.exits import Exit, Halt
from fluidcrew.exporting import export_run
from fluidcrew.planning import drafted_plan, final_output
from fluidcrew.progress import RunView
from fluidcrew.render import words
from fluidcrew.render.places import after_run, command
from fluidcrew.render.plan import PlanTree
from fluidcrew.render.run import RunTree, headline, markdown, summary
from fluidcrew.render.screen import console, is_live
from fluidcrew.sidecar_files import root_of
from fluidcrew.stack_log import StackLog
from fluidcrew.steps import Steps, began
from fluidcrew.surroundings import api_key, running_stack_of
from fluidcrew.watching import watch

TITLE = "Launch plan for Harbour"
DESCRIPTION = (
    "Harbour is a calendar that teams of 3 to 20 people share. Plan the week of its launch: whom it is for, what we say, "
    "what we publish, and how we know that it worked. Cite the company's documents."
)

PARTS = "NATS, Postgres, an S3 endpoint and the services"
SIMULATED = (
    "These answers are simulated (provider demo); set LLM_DEFAULT_PROVIDER, LLM_DEFAULT_MODEL and a key for real ones."
)


class Demonstration:
    def __init__(self, environ: Mapping[str, str], *, keep_up: bool) -> None:
        self._environ, self._keep_up = environ, keep_up
        self._home, self._key = home_of(environ), api_key(environ)
        self._screen = console()
        self._steps = Steps(self._screen)
        self._began = began()
        self._staying = False

    async def run(self) -> int:
        try:
            return await self._run()
        except Interrupted:
            if self._staying:
                return Exit.OK
            raise

    async def _run(self) -> int:
        found = running_stack_of(self._environ)
        async with AsyncExitStack() as held:
            if found is not None:
                self._screen.print(f"using the stack that runs in {found.home} (pid {found.pid})", soft_wrap=True)
                view = await self._play(found.api_url, stays=True)
            else:
                running = await self._start(held)
                view = await self._play(running.api_url, stays=self._keep_up)
                if self._keep_up:
                    return await self._stay(running)
                async with self._steps.step("Stopping everything", "Stopped everything", "stop"):
                    await held.aclose()
        self._times()
        return exit_of(view)

    async def _start(self, held: AsyncExitStack) -> Running:
        async with self._steps.step("Checking this machine", "Checked this machine", "checks") as step:
            step.detail = words.count(len(await asyncio.to_thread(require_ready, starting=True)), "check")
        async with self._steps.step(f"Starting {PARTS}", f"Started {PARTS}", "start") as step:
            log = StackLog(self._home / "logs" / "stack.log")
            held.callback(log.close)
            running = await held.enter_async_context(running_stack(self._home, environ=self._environ, log=log))
            step.detail = ", ".join(process.name for process in running.processes)
        for warning in log.warnings:
            self._screen.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)
        return running

    async def _play(self, url: str, *, stays: bool) -> RunView:
        async with Gateway(url, self._key) as api:
            documents = await self._know(api)
            run_id = await self._plan(api, documents)
            self._screen.print()
            watching = time.monotonic()
            view = await watch(api, run_id, self._screen)
            self._steps.add("run", time.monotonic() - watching)
            self._screen.print(headline(view))
            self._screen.print(RunTree(view))
            await self._result(api, view)
            self._screen.print(summary(view), soft_wrap=True)
            await print_citations(api, run_id, self._screen)
            more = [*await self._sidecars(api, run_id), *await self._site(api, view)]
            self._where(url, run_id, more, stays=stays)
        return view

    async def _know(self, api: Gateway) -> list[str]:
        async with self._steps.step("Adding the company's documents", "Added the company's documents", "plan") as step:
            documents = await sent_documents(api)
            step.detail = words.count(len(documents), "document")
        return documents

    async def _plan(self, api: Gateway, documents: Sequence[str]) -> str:
        async with self._steps.step("Creating a task", "Created a task", "plan") as step:
            task = await self._task(api)
            step.detail = task["title"]
        async with self._steps.step("The supervisor is planning it", "The supervisor planned it", "plan") as step:
            plan = await drafted_plan(api, task["id"], partial(self._steps.told, step))
            step.detail = f"version {plan['version']}, {words.count(len(plan['graph']['plan']), 'node')}"
        self._screen.print(PlanTree(plan["graph"]))
        async with self._steps.step("Waiting for the documents", "The documents can be searched", "plan") as step:
            step.detail = f"{await searchable(api, documents)} of {len(documents)}"
        async with self._steps.step("Assigning its nodes", "Assigned its nodes and started the run", "plan") as step:
            assigned = await api.post(f"/plans/{plan['plan_id']}/auto_assign")
            started = await api.post(f"/tasks/{task['id']}/start")
            step.detail = words.count(len(assigned["items"]), "assignment")
        return str(started["run_id"])

    async def _task(self, api: Gateway) -> Mapping[str, Any]:
        """Titles of tasks are unique, and this is not the first demo here."""
        earlier = await api.get("/tasks", title_contains=TITLE, include_archived="true", limit=1)
        take = int(earlier["total"]) + 1
        title = TITLE if take == 1 else f"{TITLE}, take {take}"
        found: Mapping[str, Any] = await api.post("/tasks", {"title": title, "description": DESCRIPTION})
        return found

    async def _result(self, api: Gateway, view: RunView) -> None:
        found = await final_output(api, view)
        if found is None:
            return
        title, text = found
        self._screen.print()
        self._screen.rule(Text(f"Result: {title}", style="bold"), align="left")
        if is_live(self._screen):
            self._screen.print(markdown(text))
        else:
            self._screen.print(Text(text), soft_wrap=True)
        self._screen.rule()
        config = await api.get("/config/llm")
        if config.get("default_provider") == "demo":
            self._screen.say(Text(SIMULATED, style="yellow"))

    async def _sidecars(self, api: Gateway, run_id: str) -> list[tuple[str, str]]:
        """As files, where the predecessor left them. A directory that cannot be written to is no reason to fail."""
        try:
            done = await export_run(api, run_id, root_of(self._environ))
        except Halt as halt:
            self._screen.print(Text(f"warning: no sidecars were written: {halt}", style="yellow"), soft_wrap=True)
            return []
        return [("sidecars", f"{done.folder}  (check them: {command()} validate)")]

    async def _site(self, api: Gateway, view: RunView) -> list[tuple[str, str]]:
        """Published by the run's last node; opened, so that its address is known to be good."""
        async with self._steps.step("Opening the site", "The site of the task", "site") as step:
            opened = await opened_site(api, view)
            step.detail = opened.detail if opened else "none was published"
        return [("its site", opened.url)] if opened else []

    def _where(self, url: str, run_id: str, more: list[tuple[str, str]], *, stays: bool) -> None:
        again = "" if stays else " (the run is kept: `make up` or `fluidcrew up` brings all of it back)"
        self._screen.print(Text(f"\nWhere to look next{again}", style="bold"), soft_wrap=True)
        for name, where in [*after_run(url, self._key, run_id, self._home), *more]:
            self._screen.print(Text.assemble((f"  {name:<11}", "cyan"), where), soft_wrap=True)
        self._screen.print()

    async def _stay(self, running: Running) -> int:
        self._times()
        self._staying = True
        self._screen.print("The stack stays up; Ctrl-C stops it.")
        await running.for_ever()
        return Exit.OK

    def _times(self) -> None:
        total = words.duration(time.time() - self._began)
        self._screen.print(Text(f"{self._steps.summary()} · total {total}", style="bold"), soft_wrap=True)


def exit_of(view: RunView) -> Exit:
    return Exit.OK if view.status == "completed" else Exit.FAILED
