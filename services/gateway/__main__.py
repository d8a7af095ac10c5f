"""Runs the gateway as a process of its own: python -m services.gateway."""

from __future__ import annotations

import signal
import socket
import sys
from typing import NoReturn, cast

import uvicorn

from chassis.service import load
from chassis.settings import BadSettings
from services.gateway.app import Api, create_app
from services.gateway.settings import GatewaySettings


class Server(uvicorn.Server):
    """Streams are ended first: uvicorn waits for connections, and theirs would never close by themselves."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await cast(Api, self.config.app).drain()
        await super().shutdown(sockets)


def server_config(app: Api, settings: GatewaySettings) -> uvicorn.Config:
    """No access log: it would hold what the URL held."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
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


def main() -> None:
    """Exit codes: 0 drained, 1 the port is taken, 3 what it stands on is not there, 70 broke, 78 wrong settings."""
    settings = cast(GatewaySettings, load("gateway", GatewaySettings))
    try:
        app = create_app(settings)
    except BadSettings as error:
        refuse(str(error), 78)
    listening = listen(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)  # uvicorn raises what it heard once more when it has drained
    server = Server(server_config(app, settings))
    server.run(sockets=[listening])
    if not server.started:
        raise SystemExit(3)


if __name__ == "__main__":
    main()
