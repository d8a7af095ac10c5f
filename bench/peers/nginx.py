"""An nginx of our own, which serves one directory from disk: what previews are measured against."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.contestant import LeftOut
from bench.peers import apt
from deploy.local.parts import greets
from deploy.local.ports import free_port
from deploy.local.process import Child

START_SECONDS = 10.0
CONFIGURATION = """
daemon off;
master_process off;
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    sendfile on;
    types {{ text/html html; text/javascript js; text/css css; image/png png; }}
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    keepalive_requests 1000000;
    server {{ listen 127.0.0.1:{port}; root {root}; location / {{ try_files $uri $uri/index.html =404; }} }}
}}
"""


@dataclass(frozen=True, slots=True)
class Nginx:
    url: str
    version: str


@asynccontextmanager
async def nginx(directory: Path, root: Path) -> AsyncIterator[Nginx]:
    """One process, like ours. Raises LeftOut."""
    program, port = apt.found("nginx", "usr/sbin/nginx", "to have it in the comparison"), free_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(CONFIGURATION.format(place=directory, root=root, port=port))
    child = Child("nginx", [program.path, "-c", configuration], directory / "nginx.log", env=program.environment())
    child.launch()
    try:
        async with asyncio.timeout(START_SECONDS):
            while not greets(port):
                if not child.running:
                    raise LeftOut(f"nginx does not start: {child.log_tail(2)}")
                await asyncio.sleep(0.05)
        yield Nginx(f"http://127.0.0.1:{port}", re.search(r"nginx/(\S+)", program.says("-v"))[1])  # type: ignore[index]
    finally:
        await child.stop()
