"""Everything on one machine: the stack, the migrations, the keeper and the services, until somebody says stop."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.permissions import KEEPER
from contracts.subjects import SERVICES
from deploy.local.console import console_log
from deploy.local.environment import CHECKOUT, LISTENING, BadEnvironment, port_of
from deploy.local.home import Home
from deploy.local.ports import free_port, hold, is_free
from deploy.local.process import StartFailed
from deploy.local.services import Log, ServiceProcess, command_of
from deploy.local.stack import Stack

if TYPE_CHECKING:
    from chassis.keeper import Keeper

NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback is nobody else's business
HEALTHY_SECONDS = 60.0
DRAIN_SECONDS = 20.0
DEATHS_BEFORE_HEALTHY = 3


class Interrupted(Exception):
    """Somebody asked us to stop (Ctrl-C, SIGTERM, a closed terminal), and everything has been stopped."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Running:
    """The stack while it runs: where to reach it, and its processes."""

    def __init__(self, stack: Stack, processes: Sequence[ServiceProcess]) -> None:
        self.stack = stack
        self.api_url = stack.api_url
        self.processes = tuple(processes)

    def of(self, service: str) -> list[ServiceProcess]:
        return [p for p in self.processes if p.name.split(".")[0] == service]

    async def for_ever(self) -> None:
        """Until a signal comes: it cancels whoever waits inside `running_stack`."""
        await asyncio.Event().wait()


def existing_services() -> tuple[str, ...]:
    return tuple(s for s in SERVICES if (CHECKOUT / "services" / s / "__main__.py").is_file())


@asynccontextmanager
async def running_stack(
    home: Path,
    scale: Mapping[str, int] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    log: Log | None = None,
    services: Sequence[str] | None = None,
    command: Callable[[str], Sequence[str]] = command_of,
    wait_healthy: bool = True,
    stack_of: type[Stack] = Stack,
) -> AsyncIterator[Running]:
    """Everything up inside the block, everything drained and stopped after it.

    The first signal cancels the block and drains, the second kills what still drains; then Interrupted is raised.
    """
    environ = os.environ if environ is None else environ
    log = log or console_log(as_json=environ.get("LOG_FORMAT") == "json")
    check_ports(environ)
    stack = stack_of(Home(home), environ, existing_services() if services is None else services, log)
    counts = instances(stack.services, scale or {})
    closing, hurry, stop_keeper = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with stopped_by_signals(closing, hurry), AsyncExitStack() as cleanup:
        cleanup.push_async_callback(stack.stop)
        keeper_of = await _started(stack)
        keeper = keeper_of(stack.nats_urls[KEEPER], replicas=stack.replicas)
        cleanup.push_async_callback(keeper.close)
        await asyncio.gather(keeper.apply(), _migrate(stack))
        kept = asyncio.create_task(_keep(keeper, stop_keeper, log))
        cleanup.push_async_callback(_end, stop_keeper, kept)
        processes = _processes(stack, counts, command, log)
        runs = [asyncio.create_task(p.keep_running()) for p in processes]
        cleanup.push_async_callback(_drain, processes, runs, hurry)
        cleanup.callback(closing.set)
        if wait_healthy:
            await _until_healthy(stack.api_url, processes)
        yield Running(stack, processes)


def instances(services: Sequence[str], scale: Mapping[str, int]) -> dict[str, int]:
    for service, count in scale.items():
        if service not in services:
            raise BadEnvironment(
                f"--scale {service}={count}: there is no such service; services are {', '.join(services)}"
            )
        if not 0 <= count <= 32:
            raise BadEnvironment(f"--scale {service}={count}: give a number from 0 to 32")
    return {service: scale.get(service, 1) for service in services}


def check_ports(environ: Mapping[str, str]) -> None:
    for name, default, at in LISTENING:
        port = port_of(environ, name, default)
        if not is_free(port, environ.get(at) or "127.0.0.1"):
            raise BadEnvironment(f"port {port} is in use: stop what listens there, or set {name} to another port")
        hold(port, name)  # unless whoever gave it to us does


@asynccontextmanager
async def stopped_by_signals(closing: asyncio.Event, hurry: asyncio.Event) -> AsyncIterator[None]:
    """The first signal cancels the caller, unless that is `closing` already; every other one hurries.

    A SIGHUP that is ignored stays so: `nohup` means it. SIGINT is ignored in every job a script puts into the background.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    received: list[int] = []

    def on_signal(number: int) -> None:
        if received or closing.is_set():
            hurry.set()
        else:
            received.append(number)
            task.cancel()

    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    caught = (signal.SIGINT, signal.SIGTERM) if nohup else (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in caught:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    except asyncio.CancelledError:
        if not received:
            raise
        task.uncancel()
        raise Interrupted(received[0]) from None
    finally:
        for number in caught:
            loop.remove_signal_handler(number)


async def _started(stack: Stack) -> type[Keeper]:
    """Imports what takes a third of a second while the embedded servers come up."""
    starting = asyncio.create_task(stack.start())
    await asyncio.sleep(0)  # they are launched now
    from chassis.keeper import Keeper

    await starting
    return Keeper


async def _migrate(stack: Stack) -> None:
    """Each schema as its own role, so that the role owns what is in it."""
    from chassis.migrate import migrate

    schemas = stack.databases.items()
    await asyncio.gather(*(migrate(url, s, CHECKOUT / "services" / s / "migrations") for s, url in schemas))


def _processes(
    stack: Stack, counts: Mapping[str, int], command: Callable[[str], Sequence[str]], log: Log
) -> list[ServiceProcess]:
    found = []
    for service, count in counts.items():
        for number in range(1, count + 1):
            name = service if count == 1 else f"{service}.{number}"
            env = stack.env_for(service) | {"LOG_FORMAT": os.environ.get("LOG_FORMAT") or "console"}
            if service == "gateway" and number > 1:  # the first one has PORT
                env["PORT"] = str(free_port())
                log("stack", f"{name} listens on http://127.0.0.1:{env['PORT']}")
            found.append(ServiceProcess(name, command(service), env, log, stack.home.log_file(name)))
    return found


async def _until_healthy(api_url: str, processes: Sequence[ServiceProcess]) -> None:
    deadline = asyncio.get_running_loop().time() + HEALTHY_SECONDS
    while not await asyncio.to_thread(_is_healthy, api_url):
        for process in processes:
            if process.deaths >= DEATHS_BEFORE_HEALTHY:
                raise StartFailed(f"{process.name} does not start; its last lines:\n" + "\n".join(process.last_lines))
        if asyncio.get_running_loop().time() > deadline:
            raise StartFailed(f"{api_url}/health did not say ok within {HEALTHY_SECONDS:.0f} s; see the logs directory")
        await asyncio.sleep(0.05)


def _is_healthy(api_url: str) -> bool:
    try:
        with NO_PROXY.open(f"{api_url}/health", timeout=2.0) as response:
            return bool(json.load(response).get("status") == "ok")
    except (OSError, ValueError):
        return False


async def _keep(keeper: Keeper, stop: asyncio.Event, log: Log) -> None:
    """The keeper again and again: without it streams that are gone do not come back."""
    while not stop.is_set():
        try:
            await keeper.run(stop)
        except Exception as error:  # noqa: BLE001 - whatever it was, the stack lives on and says so
            log("keeper", f"failed ({type(error).__name__}: {error}); starting it again")
            await asyncio.sleep(1.0)


async def _end(stop: asyncio.Event, task: asyncio.Task[None]) -> None:
    stop.set()
    _, pending = await asyncio.wait({task}, timeout=5.0)
    for late in pending:
        late.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _drain(processes: Sequence[ServiceProcess], runs: Sequence[asyncio.Task[None]], hurry: asyncio.Event) -> None:
    await asyncio.gather(*(p.drain(DRAIN_SECONDS, hurry) for p in processes))
    for run in runs:
        run.cancel()
    await asyncio.gather(*runs, return_exceptions=True)
