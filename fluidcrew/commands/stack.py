"""`up` and `down`: the whole stack on this machine, for as long as somebody wants it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

from fluidcrew.commands.doctor import require_ready
from fluidcrew.exits import Exit, Halt

DOWN_SECONDS = 45.0  # draining the services, then their servers


def up(
    scale: Annotated[
        list[str] | None, typer.Option(metavar="SERVICE=N", help="Run N processes of a service; may be repeated.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the API; PORT or 8000 otherwise.")] = None,
) -> int:
    """Start everything and keep it running. Ctrl-C drains and stops it; a second Ctrl-C does not wait."""
    if port is not None:
        os.environ["PORT"] = str(port)
    counts = parsed_scale(scale or [])
    _refuse_second()
    require_ready(starting=True)
    return asyncio.run(_up(counts))


def parsed_scale(items: list[str]) -> dict[str, int]:
    counts = {}
    for item in items:
        service, equals, number = item.partition("=")
        if not equals or not number.isdecimal():
            raise Halt(Exit.USAGE, f"--scale {item}: write it like --scale executor=2")
        counts[service] = int(number)
    return counts


def _refuse_second() -> None:
    from fluidcrew.surroundings import running_stack_of

    if running := running_stack_of(os.environ):
        raise Halt(
            Exit.NOT_READY,
            f"a stack is already running in {running.home} (pid {running.pid}, {running.api_url}):"
            " use it, stop it with `fluidcrew down`, or set FLUIDCREW_HOME to another directory",
        )


async def _up(counts: dict[str, int]) -> int:
    from contracts.permissions import CLI
    from deploy.local.console import console_log
    from deploy.local.environment import home_of
    from deploy.local.supervisor import Interrupted, running_stack
    from fluidcrew.fact_log import FactLog
    from fluidcrew.render.places import places
    from fluidcrew.surroundings import api_key

    as_json, begun = os.environ.get("LOG_FORMAT") == "json", datetime.now(UTC)
    log, is_up = console_log(as_json=as_json), False
    try:
        async with running_stack(home_of(os.environ), counts, environ=os.environ, log=log) as running:
            is_up = True
            for name, where in places(running.api_url, api_key(os.environ), home_of(os.environ), os.environ):
                log("stack", f"{name:<10} {where}")
            log("stack", "ready; Ctrl-C stops everything")
            await FactLog(log, as_json=as_json).follow(running.stack.nats_urls[CLI], since=begun)
            await running.for_ever()
    except Interrupted:
        log("stack", "stopped")
        return Exit.OK if is_up else Exit.INTERRUPTED
    return Exit.OK


def down() -> int:
    """Stop the stack that runs in the data directory: its services finish what they hold, then everything ends."""
    from deploy.local.home import is_held
    from fluidcrew.surroundings import running_stack_of

    running = running_stack_of(os.environ)
    if running is None:
        print("no stack is running")
        return Exit.OK
    os.kill(running.pid, signal.SIGTERM)
    started = time.monotonic()
    while is_held(running.home):
        if time.monotonic() - started > DOWN_SECONDS:
            raise Halt(Exit.FAILED, f"it is still stopping after {DOWN_SECONDS:.0f} s: see {running.home / 'logs'}")
        time.sleep(0.05)
    print(f"stopped in {time.monotonic() - started:.1f} s")
    return Exit.OK
