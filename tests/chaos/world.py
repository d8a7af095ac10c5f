"""The stack under fault: several of each service, brought back as a supervisor does it, composed otherwise on demand."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import httpx

from contracts.permissions import KEEPER
from deploy.local.environment import CHECKOUT
from deploy.local.parts import Part, ready
from deploy.local.process import Child, StartFailed
from tests.chaos.model_server import JUDGE
from tests.system.defaults import API_KEY, CONCURRENCY
from tests.system.world import World

SERVICES = ("planner", "executor", "executor.2", "feedback", "publisher", "rag", "gateway", "gateway.2")
EXECUTORS = ("executor", "executor.2")
GATEWAYS = ("gateway", "gateway.2")
REVIEWERS = ("feedback",)
LOOK = 0.05
MOST_TOKENS = 500  # of an answer: what a call may cost at most has to be no more than what one can cost
PRICE_OF_A_TOKEN = Decimal("0.0001")
PRICE = {"input": 0, "output": float(PRICE_OF_A_TOKEN * 1_000_000)}
PRICED = {
    "LLM_MAX_OUTPUT_TOKENS": str(MOST_TOKENS),
    "LLM_PRICES": json.dumps(dict.fromkeys(("fake-1", JUDGE), PRICE)),
}
#: who is not gated is not reviewed; a death is noticed soon, a slow machine is none
REVIEWED = {
    "FEEDBACK_REVIEWER": f"openai/{JUDGE}",
    "FEEDBACK_REVIEW_TIMEOUT_MS": "30000",
    "FEEDBACK_CONCURRENCY": str(CONCURRENCY),
    "FEEDBACK_LEASE": "3",
}
PATIENCE = 90.0  # seconds; eight processes that start at once take a busy machine that long


class ChaosWorld(World):
    """`deaths` are those that nobody caused. A service's command may be composed: the product has no switch for it."""

    model_server = "tests.chaos.model_server"

    def __init__(self, **environment: str) -> None:
        super().__init__(**(PRICED | REVIEWED | environment))
        self.deaths: list[tuple[str, int | None]] = []
        self._composed: dict[str, Sequence[str]] = {}
        self._may_die: set[str] = set()
        self._snapshot = self.home.path / "broker-snapshot"

    @property
    def gateways(self) -> list[str]:
        return [self.url(name) for name in GATEWAYS]

    def start(self) -> None:
        super().start()
        self.launch(*(name for name in SERVICES if "." in name))

    def keep_logs(self, directory: Path) -> None:
        """Whoever reads a broken history needs them beside it."""
        shutil.copytree(self.home.logs, directory, dirs_exist_ok=True)

    # composition

    def compose(self, name: str, module: str, *arguments: str, may_die: bool = False) -> None:
        """From its next launch on, this process is another main, built of the product's parts and something else."""
        self._composed[name] = (module, *arguments)
        self._children.pop(name, None)
        self._may_die |= {name} if may_die else set()

    def has_yet_to_die(self, name: str) -> bool:
        return name in self._may_die

    def decompose(self, name: str) -> None:
        """The product's own main again, from the next launch on."""
        self._composed.pop(name, None)
        self._may_die.discard(name)
        self._children.pop(name, None)

    def _process(self, name: str) -> Child:
        service, composed = name.split(".", maxsplit=1)[0], self._composed.get(name)
        if composed is None:
            return super()._process(name)
        env = self.environment(KEEPER if service == "keeper" else name)
        return Child(name, [sys.executable, "-m", *composed], self.home.log_file(name), env=env, cwd=CHECKOUT)

    # faults

    def is_running(self, name: str) -> bool:
        return name in self._children and self._children[name].running

    async def revive(self, *names: str) -> None:
        """Up again after `kill`; on the same ports, and without holding up those who watch."""
        for name in names:
            part = next((part for part in self._parts if part.name == name), None)
            if part is None:
                self.launch(name)
            else:
                await self._launched(part)

    async def _launched(self, part: Part) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            try:
                part.launch()
                await ready(part)
                break
            except StartFailed:  # Postgres refuses until the backends of the one that died are gone
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(LOOK)
        self._meant_to_run.add(part.name)

    async def photograph_the_broker(self) -> None:
        """What the broker's disk holds, for a rollback."""
        self.kill("nats")
        shutil.rmtree(self._snapshot, ignore_errors=True)
        shutil.copytree(self.nats.store, self._snapshot)
        await self.revive("nats")

    async def roll_the_broker_back(self) -> None:
        self.kill("nats")
        shutil.rmtree(self.nats.store)
        shutil.copytree(self._snapshot, self.nats.store)
        await self.revive("nats")

    async def wipe_the_broker(self) -> None:
        self.kill("nats")
        shutil.rmtree(self.nats.store)
        await self.revive("nats")

    # supervision

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[None]:
        supervising = asyncio.create_task(self._bring_back())
        try:
            yield
        finally:
            supervising.cancel()
            await asyncio.gather(supervising, return_exceptions=True)

    async def _bring_back(self) -> None:
        """For ever: what ended by itself is noted and started again."""
        while True:
            for name in self._ended():
                code = self._children[name].exit_code
                meant = name in self._may_die and code == -signal.SIGKILL
                if not meant and (name in self._may_die or not self._is_unborn(name)):
                    self.deaths.append((name, code))
                if name in self._may_die:
                    self.decompose(name)
                self.launch(name)
            await asyncio.sleep(LOOK)

    async def until_all_serve(self, patience: float = PATIENCE) -> None:
        """Every gateway is up, and says that all owners are."""
        deadline = asyncio.get_running_loop().time() + patience
        async with httpx.AsyncClient(headers={"X-API-Key": API_KEY}, timeout=30) as http:
            while not all([await self._serves(http, url) for url in self.gateways]):
                if asyncio.get_running_loop().time() > deadline:
                    raise StartFailed(f"the stack does not come back\n{self.log_tails(15)}")
                await asyncio.sleep(LOOK)

    async def _serves(self, http: httpx.AsyncClient, url: str) -> bool:
        try:
            health = (await http.get(f"{url}/health")).json()
            owners = [await http.get(f"{url}{path}", params={"limit": 1}) for path in ("/tasks", "/runs", "/feedbacks")]
        except (httpx.HTTPError, ValueError):
            return False
        return health.get("status") == "ok" and all(answer.status_code == 200 for answer in owners)

    def leases_lost(self) -> int:
        """How often an executor found itself declared dead, by its own words."""
        return sum(self.log(name).count("committer.fenced") for name in EXECUTORS)
