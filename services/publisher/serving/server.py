"""The port of previews: listens until the service stops, then lets those who are reading finish."""

from __future__ import annotations

import asyncio
import socket

import structlog
import uvicorn

from chassis.http_connection import Connection
from services.publisher.serving.application import Application

log = structlog.get_logger(__name__)

PATIENCE = 3  # seconds for answers that are under way when the service stops
IDLE = 30  # seconds that a connection is kept


class Server:
    def __init__(self, application: Application, listening: socket.socket) -> None:
        self._listening = listening
        self._server = uvicorn.Server(
            uvicorn.Config(
                application,
                http=Connection,
                log_level="warning",
                lifespan="off",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                timeout_keep_alive=IDLE,
                timeout_graceful_shutdown=PATIENCE,
            )
        )

    async def run(self, stop: asyncio.Event) -> None:
        """Raises when it ends before: then the process does, and is started anew."""
        host, port = self._listening.getsockname()[:2]
        log.info("previews.served", host=host, port=port)
        # not serve(): signals are the service's business
        serving = asyncio.create_task(self._server._serve(sockets=[self._listening]), name="previews.http")
        stopping = asyncio.create_task(stop.wait(), name="previews.stop")
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        self._server.should_exit = True
        await serving
        if not stop.is_set():
            raise RuntimeError("the server of previews ended, and nobody told it to")
