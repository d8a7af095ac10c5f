"""Follows a run to its end over the API's event stream, and shows it: redrawn in place on a terminal, else line by line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from rich.console import Console, Group, RenderableType
from rich.text import Text

from fluidcrew.client import Gateway
from fluidcrew.progress import Happened, RunView
from fluidcrew.render.facts import happened_line
from fluidcrew.render.redrawing import redrawn
from fluidcrew.render.run import RunProgress, RunTree, headline
from fluidcrew.render.screen import is_live
from fluidcrew.render.verdicts import decide_with
from fluidcrew.sse import Message

LOOK_EVERY = 5.0  # without news the run itself is asked, so that a lost last fact keeps nobody waiting


class Show(Protocol):
    def happened(self, view: RunView, happened: Happened) -> None:
        """A fact has just been applied to the view."""


class Lines:
    """A line per fact: for pipes, logs and terminals that cannot redraw."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen

    def happened(self, view: RunView, happened: Happened) -> None:
        node = view.nodes.get(str(happened.told.get("key")))
        self._screen.print(happened_line(happened, node.title if node else ""), soft_wrap=True)
        if node is not None and node.held and happened.level == "NODE_PAUSED":
            self._screen.print(Text(decide_with(), style="yellow"), soft_wrap=True)


class Silent:
    """The tree is redrawn by its own clock."""

    def happened(self, view: RunView, happened: Happened) -> None:
        return


async def load(api: Gateway, run_id: str) -> RunView:
    run = await api.get(f"/runs/{run_id}", include_nodes="true")
    return RunView.of(run, run["dag"]["nodes"])


async def watch(api: Gateway, run_id: str, screen: Console) -> RunView:
    """Shows the run until it has ended, and answers how it stands then."""
    view = await load(api, run_id)
    if not is_live(screen):
        return await follow(api, view, Lines(screen))
    async with redrawn(screen, Group(_Headline(view), RunTree(view, height=0), RunProgress(view))):
        return await follow(api, view, Silent())


class _Headline:
    def __init__(self, view: RunView) -> None:
        self._view = view

    def __rich__(self) -> RenderableType:
        return headline(self._view)


async def follow(api: Gateway, view: RunView, show: Show) -> RunView:
    """A run may end and be opened again: only when the API agrees that it is over, it is."""
    async with _heard(api, view.id) as heard:
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    message = await heard.get()
            except TimeoutError:
                message = None
            if isinstance(message, BaseException):
                raise message
            if message is not None and not _moved(view, message, show):
                continue
            latest = await load(api, view.id)
            if latest.over:
                return latest


def _moved(view: RunView, message: Message, show: Show) -> bool:
    """Whether the run seems to be over now. A `reset` tells the run from its beginning; facts say the same again."""
    if message.event != "message":
        return message.event == "end"  # the gateway's word that there is nothing more to tell
    try:
        happened = Happened.of(json.loads(message.data))
    except (ValueError, AttributeError):
        return False
    view.apply(happened)
    show.happened(view, happened)
    return view.over


@asynccontextmanager
async def _heard(api: Gateway, run_id: str) -> AsyncIterator[asyncio.Queue[Any]]:
    """What the stream brings; its failure is the last thing in the queue."""
    queue: asyncio.Queue[Message | BaseException] = asyncio.Queue()

    async def listen() -> None:
        try:
            async for message in api.events("/events/stream", run_id=run_id):
                queue.put_nowait(message)
        except Exception as error:  # noqa: BLE001 - raised again by whoever reads the queue
            queue.put_nowait(error)

    listening = asyncio.create_task(listen())
    try:
        yield queue
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
