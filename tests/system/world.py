"""A whole stack as processes on loopback, which a test may kill, restart and rob: every part runs, nothing is mocked."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import nats
from nats.js import JetStreamContext

from chassis import roles
from chassis.keeper import Keeper
from chassis.migrate import migrate
from chassis.testing.plugin import UNSAFE_BUT_FAST
from contracts.permissions import CLI, KEEPER, permissions
from contracts.subjects import SERVICES
from deploy.local.environment import CHECKOUT
from deploy.local.home import Home
from deploy.local.nats import Nats
from deploy.local.parts import Part, ready_now
from deploy.local.ports import free_port
from deploy.local.postgres import Postgres
from deploy.local.process import Child, StartFailed
from deploy.local.s3 import S3
from tests.system.defaults import API_KEY, BUCKET, DATABASE, DEFAULTS, INHERITED, RUNNING


class World:
    """Names: nats, s3, postgres, llm, keeper, and the services, whose further replicas are `executor.2` and so on."""

    model_server = "chassis.testing.fake_openai"

    def __init__(self, **environment: str) -> None:
        # Not below pytest's own directory: that is private to root, and Postgres runs as another user then.
        self.home = Home(Path(tempfile.mkdtemp(prefix="fluidcrew-world-")))
        self.home.prepare()
        self.nats = Nats(self.home, {user: permissions(user) for user in (*SERVICES, CLI, KEEPER)})
        self.s3 = S3(self.home, BUCKET)
        self.postgres = Postgres(self.home, **UNSAFE_BUT_FAST)
        self._environment = environment
        self._databases: dict[str, str] = {}
        self._ports: dict[str, int] = {}
        self._children: dict[str, Child] = {part.name: part.child for part in self._parts}
        self._meant_to_run: set[str] = set()
        self._told_before: dict[str, int] = {}  # length of its log when it was launched
        self.llm_url = ""

    # the whole

    def start(self) -> None:
        for part in self._parts:
            part.launch()
        self._start_llm()
        for part in self._parts:
            ready_now(part)
        self._meant_to_run |= {part.name for part in self._parts}
        asyncio.run(self._prepare())
        self.launch("keeper", *RUNNING)
        self.until_well()

    def stop(self) -> None:
        """Services drain; what they stand on is needed by nobody then."""
        services = [child for name, child in self._children.items() if name.split(".")[0] in RUNNING]
        for child in services:
            child.signal(signal.SIGTERM)
        for child in services:
            child.stop_now()
        for child in self._children.values():
            child.signal(signal.SIGKILL)
            child.stop_now()
        shutil.rmtree(self.home.path, ignore_errors=True)
        if self.postgres.directory.parent != self.home.path:
            shutil.rmtree(self.postgres.directory, ignore_errors=True)

    def repair(self) -> None:
        """Everything that a test left down or frozen comes up again, and what it added goes."""
        for child in self._children.values():
            child.signal(signal.SIGCONT)
        for name in [n for n in self._children if "." in n]:
            self.kill(name)
            del self._children[name]
        for part in self._parts:
            if not part.child.running:
                self._revive(part)
        self.launch(*(name for name in ("keeper", *RUNNING) if not self._children[name].running))
        self.until_well()

    def died(self) -> dict[str, int | None]:
        """Exit codes of what had come up, and ended without having been killed by the test."""
        return {name: self._children[name].exit_code for name in self._ended() if not self._is_unborn(name)}

    async def supervise(self) -> None:
        """For ever: what did not come up, because what it stands on was away, is started again."""
        while True:
            self._start_the_unborn()
            await asyncio.sleep(0.2)

    def until_well(self, patience: float = 90.0) -> None:
        deadline = time.monotonic() + patience
        while not self._is_well():
            if time.monotonic() > deadline or self.died():
                raise StartFailed(f"the stack is not well; died: {self.died()}\n{self.log_tails(20)}")
            self._start_the_unborn()
            time.sleep(0.05)

    def _ended(self) -> list[str]:
        return [name for name in self._meant_to_run if not self._children[name].running]

    def _is_unborn(self, name: str) -> bool:
        if name.split(".", maxsplit=1)[0] not in RUNNING:
            return False
        return "service.started" not in self.log(name)[self._told_before.get(name, 0) :]

    def _start_the_unborn(self) -> None:
        self.launch(*(name for name in self._ended() if self._is_unborn(name)))

    # its processes

    def launch(self, *names: str) -> None:
        for name in names:
            child = self._children.setdefault(name, self._process(name))
            self._told_before[name] = len(self.log(name))
            child.launch()
            self._meant_to_run.add(name)

    def kill(self, *names: str) -> None:
        """kill -9, and gone when this returns."""
        for name in names:
            self._meant_to_run.discard(name)
            self._children[name].signal(signal.SIGKILL)
        for name in names:
            if (process := self._children[name].process) is not None:
                process.wait(10)

    def restart(self, *names: str) -> None:
        """kill -9 and up again, as the supervisor does it; on the same ports."""
        self.kill(*names)
        for name in names:
            part = next((p for p in self._parts if p.name == name), None)
            if part is None:
                self.launch(name)
            else:
                self._revive(part)

    def freeze(self, name: str) -> None:
        """It stops running and does not know it, until `thaw`."""
        self._children[name].signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self._children[name].signal(signal.SIGCONT)

    async def drain(self, name: str) -> int | None:
        """Ask it to end, as the supervisor does; its exit code."""
        self._meant_to_run.discard(name)
        await self._children[name].stop(patience=30)
        return self._children[name].exit_code

    def lose_the_broker_s_disk(self) -> None:
        self.kill("nats")
        shutil.rmtree(self.nats.store)
        self._revive(self.nats)

    @property
    def names(self) -> list[str]:
        return list(self._children)

    def pid(self, name: str) -> int:
        pid = self._children[name].pid
        assert pid is not None, f"{name} was never started"
        return pid

    # ways in

    def url(self, gateway: str = "gateway") -> str:
        return f"http://127.0.0.1:{self._port(gateway)}"

    def environment(self, service: str) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if k in INHERITED}
        where = {
            "FLUIDCREW_HOME": str(self.home.path),
            "PORT": str(self._port(service) if service.startswith("gateway") else 0),
            "PREVIEW_PORT": str(self._port("publisher")),
            "OPENAI_BASE_URL": self.llm_url,
            "NATS_URL": self.nats.url(service.split(".", maxsplit=1)[0]),
            "DATABASE_URL": self._databases.get(service.split(".", maxsplit=1)[0], ""),
            "S3_ENDPOINT_URL": self.s3.url,
            "S3_BUCKET": BUCKET,
            "S3_ACCESS_KEY_ID": self.s3.access_key,
            "S3_SECRET_ACCESS_KEY": self.s3.secret_key,
        }
        return inherited | DEFAULTS | where | self._environment

    async def rows(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """As the administrator of the database: for what no API shows, and to check that the API tells the truth."""
        connection = await asyncpg.connect(self.postgres.url(DATABASE))
        try:
            return list(await connection.fetch(query, *arguments))
        finally:
            await connection.close()

    @asynccontextmanager
    async def locked(self, table: str) -> AsyncIterator[None]:
        """Whoever wants to read or write the table has to wait."""
        connection = await asyncpg.connect(self.postgres.url(DATABASE))
        try:
            async with connection.transaction():
                await connection.execute(f"lock table {table} in access exclusive mode")
                yield
        finally:
            await connection.close()

    def log(self, name: str) -> str:
        file = self.home.logs / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def log_tails(self, lines: int = 40, names: Iterable[str] = ()) -> str:
        tails = {n: self.log(n).splitlines()[-lines:] for n in names or self._children}
        return "\n".join(f"--- {name}\n" + "\n".join(tail) for name, tail in tails.items() if tail)

    # inside

    @property
    def _parts(self) -> tuple[Part, ...]:
        return self.nats, self.s3, self.postgres

    def _port(self, name: str) -> int:
        if name not in self._ports:
            self._ports[name] = free_port()
        return self._ports[name]

    def _process(self, name: str) -> Child:
        service = name.split(".", maxsplit=1)[0]
        if service == "keeper":
            module, env = "tests.system.keep", self.environment(KEEPER)
        else:
            module, env = f"services.{service}", self.environment(name)
        argv = [sys.executable, "-m", module]
        return Child(name, argv, self.home.log_file(name), env=env, cwd=CHECKOUT)

    def _start_llm(self) -> None:
        """The fake provider is a process of its own: it must not share the fate of what it witnesses."""
        child = Child("llm", [sys.executable, "-m", self.model_server], None, cwd=CHECKOUT)
        child.launch()
        self._children["llm"] = child
        assert child.process is not None
        assert child.process.stdout is not None
        self.llm_url = child.process.stdout.readline().decode().strip()
        self._meant_to_run.add("llm")

    async def _prepare(self) -> None:
        keeper = Keeper(self.nats.url(KEEPER))
        try:
            await asyncio.gather(self._migrate(), keeper.apply())
        finally:
            await keeper.close()

    async def _migrate(self) -> None:
        await roles.create_database(self.postgres.url(), DATABASE)
        passwords = {service: self.home.secret(f"postgres-{service}") for service in RUNNING}
        made = await roles.bootstrap_roles(self.postgres.url(DATABASE), passwords, ours=True)
        self._databases = made.urls
        schemas = made.urls.items()
        await asyncio.gather(*(migrate(url, s, CHECKOUT / "services" / s / "migrations") for s, url in schemas))

    def _revive(self, part: Part) -> None:
        """Postgres refuses until the backends of the one that died are gone: again, as the supervisor does."""

        def revive() -> None:
            if part.child.running:  # it came up too slowly the last time
                self.kill(part.name)
            part.launch()
            ready_now(part)

        _persistently(revive)
        self._meant_to_run.add(part.name)

    def _is_well(self) -> bool:
        """`/health` alone may be a second old; the owners' answers are not."""
        try:
            return self._get("/health")["status"] == "ok" and all(self._get(path) for path in ("/tasks", "/runs"))
        except (OSError, ValueError):
            return False

    def _get(self, path: str) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.url()}{path}", headers={"X-API-Key": API_KEY})
        with urllib.request.urlopen(request, timeout=30.0) as response:
            found: dict[str, Any] = json.load(response)
            return found


@asynccontextmanager
async def as_the_keeper(world: World) -> AsyncIterator[JetStreamContext]:
    connection = await nats.connect(world.nats.url(KEEPER))
    try:
        yield connection.jetstream()
    finally:
        await connection.close()


def _persistently(attempt: Callable[[], object], patience: float = 20.0) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            attempt()
            return
        except StartFailed:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
