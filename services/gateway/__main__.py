"""Runs the gateway as a process of its own: python -m services.gateway."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import NoReturn, cast

import uvicorn
import uvloop

from chassis import garbage
from chassis.http_connection import Connection
from chassis.service import load
from chassis.settings import BadSettings
from chassis.starting import NotThere
from services.gateway.app import Api, create_app
from services.gateway.settings import GatewaySettings

CANCEL_AGAIN_AFTER = 0.5  # seconds


class Server(uvicorn.Server):
    """Listens when the app stands. uvicorn's own lifespan would be deaf to signals while the app waits for its parts."""

    standing = False

    @property
    def app(self) -> Api:
        return cast(Api, self.config.app)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        async with self.app.router.lifespan_context(self.app):
            garbage.spare_what_is_there()
            self.standing = True
            await super().serve(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Streams are ended first: uvicorn waits for connections, and theirs would never close by themselves."""
        await self.app.drain()
        await super().shutdown(sockets)


def server_config(app: Api, settings: GatewaySettings) -> uvicorn.Config:
    """No access log: it would hold what the URL held."""
    return uvicorn.Config(
        app,
        http=Connection,
        host=settings.host,
        port=settings.port,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=int(settings.drain_timeout),
    )


def refuse(reason: str, code: int) -> NoReturn:
    sys.stderr.write(f"gateway: {reason}\n")
    raise SystemExit(code)


def listen(settings: GatewaySettings) -> socket.socket:
    """Before anything else is started: a taken port is the commonest reason not to start at all."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        refuse(f"cannot listen on {where} ({error.strerror}); stop what holds it, or set PORT to a free port", 1)


async def serve_until_told(server: Server, listening: socket.socket) -> None:
    """Told to stop while it still waits for what it stands on, it stops at once."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)  # uvicorn raises what it heard once more when it has drained
    serving, hearing = asyncio.create_task(server.serve([listening])), asyncio.create_task(told.wait())
    await asyncio.wait([serving, hearing], return_when=asyncio.FIRST_COMPLETED)
    if not server.standing and not serving.done():
        while (
            not serving.done()
        ):  # nats-py's first connect may swallow a cancellation (its wait_for, before Python 3.12)
            serving.cancel()
            await asyncio.wait([serving], timeout=CANCEL_AGAIN_AFTER)
        return
    if told.is_set():
        server.should_exit = True  # also when it came before uvicorn listened for signals
    hearing.cancel()
    await serving


def main() -> None:
    """Exit codes: 0 drained, 1 the port is taken, 3 what it stands on is not there, 70 broke, 78 wrong settings."""
    settings = cast(GatewaySettings, load("gateway", GatewaySettings))
    try:
        app = create_app(settings)
    except BadSettings as error:
        refuse(str(error), 78)
    listening = listen(settings)
    try:
        uvloop.run(serve_until_told(Server(server_config(app, settings)), listening))
    except (BadSettings, NotThere) as error:
        refuse(str(error), 78 if isinstance(error, BadSettings) else 3)


if __name__ == "__main__":
    main()
