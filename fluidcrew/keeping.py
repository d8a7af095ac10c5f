"""`fluidcrew bus`: the keeper's work done once, by hand, with its credentials."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from chassis.keeper import Keeper
from contracts.permissions import KEEPER
from contracts.streams import STREAMS
from fluidcrew.bus import connected
from fluidcrew.exits import Exit, Halt
from fluidcrew.render.screen import console
from fluidcrew.render.tables import consumers_table, streams_table
from fluidcrew.surroundings import bus_replicas, bus_url, without_credentials


async def apply() -> int:
    async with _keeper() as keeper:
        changed = await keeper.apply()
    print("\n".join(changed) if changed else "everything is as defined; nothing changed")
    return Exit.OK


async def verify() -> int:
    async with _keeper() as keeper:
        differences = await keeper.verify()
    if not differences:
        print("everything is as defined")
        return Exit.OK
    print("\n".join(map(str, differences)))
    raise Halt(
        Exit.FAILED, f"{len(differences)} differences from what is defined: `fluidcrew bus apply` puts them right"
    )


async def info() -> int:
    url = bus_url(os.environ, KEEPER)
    async with connected(url, KEEPER) as nc, _refusals_explained(url):
        js = nc.jetstream(timeout=5)
        streams = [(found, await _oldest(js, found)) for spec in STREAMS if (found := await _stream(js, spec.name))]
        consumers = [c for found, _ in streams for c in await js.consumers_info(found.config.name)]
    if not streams:
        raise Halt(Exit.FAILED, "the bus has no streams of ours: make them with `fluidcrew bus apply`")
    screen = console()
    screen.print(streams_table(streams))
    screen.print()
    screen.print(consumers_table(consumers))
    return Exit.OK


async def _stream(js: JetStreamContext, name: str) -> Any | None:
    try:
        return await js.stream_info(name)
    except NotFoundError:
        return None


async def _oldest(js: JetStreamContext, info: Any) -> datetime | None:
    if not info.state.messages:
        return None
    try:
        first = await js.get_msg(info.config.name, seq=info.state.first_seq)
    except NotFoundError:
        return None  # purged in between
    return first.time


@asynccontextmanager
async def _keeper() -> AsyncIterator[Keeper]:
    url = bus_url(os.environ, KEEPER)
    async with connected(url, KEEPER):  # one line when the bus is not there, before the keeper would wait for it
        pass
    keeper = Keeper(url, replicas=bus_replicas(os.environ))
    try:
        async with _refusals_explained(url):
            yield keeper
    finally:
        await keeper.close()


@asynccontextmanager
async def _refusals_explained(url: str) -> AsyncIterator[None]:
    where = without_credentials(url)
    try:
        yield
    except APIError as error:
        raise Halt(Exit.REFUSED, f"the bus at {where} refused: {error.description or error}") from error
    except (Error, TimeoutError, OSError) as error:
        hint = "has its user JetStream rights there? KEEPER_NATS_URL names the one that has"
        raise Halt(Exit.UNREACHABLE, f"the bus at {where} did not answer ({type(error).__name__}): {hint}") from error
