"""What the services stand on: NATS, Postgres and S3, embedded or given by URL, and the environment of each service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from chassis import roles
from contracts.permissions import CLI, KEEPER, permissions
from contracts.subjects import SERVICES
from deploy.local.environment import port_of, replicas_of, value_of
from deploy.local.home import Home
from deploy.local.nats import Nats
from deploy.local.parts import Part, ready
from deploy.local.postgres import Postgres
from deploy.local.process import StartFailed
from deploy.local.s3 import S3

DATABASE = "fluidcrew"
WATCH_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0
#: how somebody else's store is reached, which is wrong for the embedded one
OF_ANOTHER_STORE = {"S3_SESSION_TOKEN", "AWS_SESSION_TOKEN", "S3_ADDRESSING_STYLE", "S3_CA_BUNDLE"}
CREDENTIALS = {"NATS_URL", "DATABASE_URL", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY"} | {
    f"{user.upper()}_{name}" for user in (*SERVICES, CLI, KEEPER) for name in ("NATS_URL", "DATABASE_URL")
}

ONE_PORT = "HEALTH_PORT"  # of one process; <SERVICE>_HEALTH_PORT is passed on

Log = Callable[[str, str], None]  # source, line


class Stack:
    """Starts the embedded parts, restarts those that die, and knows every address and credential."""

    def __init__(self, home: Home, environ: Mapping[str, str], services: Sequence[str], log: Log) -> None:
        self.home = home
        self.services = tuple(services)
        self._environ, self._log = environ, log
        self._held = ExitStack()
        self._watchers: list[asyncio.Task[None]] = []
        self.parts: dict[str, Part] = {}
        self.databases: dict[str, str] = {}
        self.nats_urls: dict[str, str] = {}
        self.admin_database = ""

    async def start(self) -> None:
        self.home.prepare()
        if value_of(self._environ, ONE_PORT):
            self._log("stack", f"{ONE_PORT} is not passed on, services would fight for it; set e.g. PLANNER_{ONE_PORT}")
        self._held.enter_context(self.home.locked())
        self._held.callback(self.home.withdraw)
        for part in self._embedded():
            self.parts[part.name] = part
            part.launch()
        for part in self.parts.values():
            await ready(part)
        self._watchers = [asyncio.create_task(self._keep_alive(part)) for part in self.parts.values()]
        self._connect_bus()
        await self._connect_database()
        self.home.publish(self._facts())

    async def stop(self) -> None:
        """Ends the parts together: nobody is left who uses them."""
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await asyncio.gather(*(part.child.stop() for part in self.parts.values()))
        self._held.close()

    def env_for(self, service: str) -> dict[str, str]:
        """The environment of one service: ours, with its own user of the bus and its own role in the database."""
        left_out = CREDENTIALS | {ONE_PORT} | (OF_ANOTHER_STORE if "s3" in self.parts else set())
        env = {k: v for k, v in self._environ.items() if k.removesuffix("_FILE") not in left_out}
        return (
            env
            | self.object_store
            | {
                "NATS_URL": self.nats_urls[service],
                "DATABASE_URL": self.databases[service],
                "FLUIDCREW_HOME": str(self.home.path),
                "PYTHONUNBUFFERED": "1",
            }
        )

    @property
    def object_store(self) -> dict[str, str]:
        embedded = self.parts.get("s3")
        if isinstance(embedded, S3):
            endpoint, key, secret = embedded.url, embedded.access_key, embedded.secret_key
        else:
            endpoint, key, secret = (
                value_of(self._environ, n) for n in ("S3_ENDPOINT_URL", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY")
            )
        return {
            "S3_ENDPOINT_URL": endpoint,
            "S3_BUCKET": self._bucket,
            "S3_ACCESS_KEY_ID": key,
            "S3_SECRET_ACCESS_KEY": secret,
        }

    @property
    def replicas(self) -> int:
        """Of each stream."""
        return replicas_of(self._environ)

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{port_of(self._environ, 'PORT', 8000)}"

    @property
    def _bucket(self) -> str:
        return self._environ.get("S3_BUCKET") or "fluidcrew"

    def _embedded(self) -> list[Part]:
        """The parts that no URL replaces. Postgres last: it makes its cluster while the others come up."""
        wanted: list[Part] = []
        if not value_of(self._environ, "NATS_URL"):
            wanted.append(Nats(self.home, {user: permissions(user) for user in (*SERVICES, CLI, KEEPER)}))
        if not self._environ.get("S3_ENDPOINT_URL"):
            wanted.append(S3(self.home, self._bucket))
        if not value_of(self._environ, "DATABASE_URL"):
            wanted.append(Postgres(self.home))
        return wanted

    def _connect_bus(self) -> None:
        embedded, given = self.parts.get("nats"), value_of(self._environ, "NATS_URL")
        for user in (*self.services, CLI, KEEPER):
            own = value_of(self._environ, f"{user.upper()}_NATS_URL")
            self.nats_urls[user] = embedded.url(user) if isinstance(embedded, Nats) else own or given

    async def _connect_database(self) -> None:
        embedded, given = self.parts.get("postgres"), value_of(self._environ, "DATABASE_URL")
        if isinstance(embedded, Postgres):
            await roles.create_database(embedded.url(), DATABASE)
            given = embedded.url(DATABASE)
        self.admin_database = roles.plain_url(given)
        named = {s: value_of(self._environ, f"{s.upper()}_DATABASE_URL") for s in self.services}
        own = {service: roles.plain_url(url) for service, url in named.items() if url}
        passwords = {s: self.home.secret(f"postgres-{s}") for s in self.services if s not in own}
        made = await roles.bootstrap_roles(given, passwords, ours=embedded is not None)
        if made.warning:
            self._log("stack", f"warning: {made.warning}")
        self.databases = own | made.urls

    async def _keep_alive(self, part: Part) -> None:
        """Brings the part back, on the same port, whenever it has ended or cannot go on."""
        delay, told = 0.0, ""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            complaint = part.complaint()
            if complaint != told:
                told = complaint
                self._log("stack", f"{part.name}: {complaint or 'works again'}")
            if part.child.running and not (complaint and part.curable()):
                continue
            await self._end(part)
            await asyncio.sleep(delay)
            try:
                part.launch()
                await ready(part)
                delay = 0.0
            except (StartFailed, OSError) as error:
                delay = min(max(0.2, delay * 2), LONGEST_BACKOFF_SECONDS)
                self._log("stack", f"{part.name} does not come back ({error}); next try in {delay:.1f} s")

    async def _end(self, part: Part) -> None:
        if part.child.running:
            await part.child.stop()
        self._log("stack", f"{part.name} ended with code {part.child.exit_code}; starting it again")

    def _facts(self) -> dict[str, Any]:
        return {
            "api_url": self.api_url,
            "nats_url": self.nats_urls[CLI],
            "nats_keeper_url": self.nats_urls[KEEPER],
            "nats_replicas": self.replicas,
            "database_url": self.admin_database,
            "databases": self.databases,
            "object_store": self.object_store,
        }
