"""The clients of a scenario: every request and its answer goes into the history, what is not answered is asked again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

from tests.chaos.history import Recorder
from tests.system.defaults import API_KEY
from tests.system.ledger import Plan

LONGEST_ANSWER = 75.0  # a plan may be drafted while we wait
TRY_AGAIN = 0.1
PERSISTENCE = 300.0  # seconds; the longest outage that is played takes 180


class Client:
    """Talks to any of the gateways, as good clients do: the same request under the same key until it is answered."""

    def __init__(self, urls: Sequence[str], recorder: Recorder, rng: random.Random) -> None:
        self._urls, self._recorder, self._rng = list(urls), recorder, rng
        self._launches = 0
        self.patience = LONGEST_ANSWER  # seconds; then the same is asked again
        self._http = httpx.AsyncClient(headers={"X-API-Key": API_KEY})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def once(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str = "",
        actor: str = "",
        request_id: str = "",
        **about: Any,
    ) -> tuple[int, dict[str, Any]]:
        """Status and answer of one attempt; status 0 when there was none."""
        began, url = time.time(), self._rng.choice(self._urls)
        named = {"Idempotency-Key": key, "X-Actor": actor, "X-Request-ID": request_id}
        headers = {name: value for name, value in named.items() if value}
        status, answer, extra = 0, {}, dict[str, Any]()
        try:
            response = await self._http.request(
                method, f"{url}{path}", json=body, headers=headers, timeout=self.patience
            )
            status, answer = response.status_code, _json(response)
            extra = {"retry_after": response.headers.get("Retry-After")} if status == 503 else {}
        except httpx.ReadTimeout:
            extra = {"hung": self.patience} if self.patience >= LONGEST_ANSWER else {"error": "impatience"}
        except httpx.TransportError as error:
            extra = {"error": repr(error)}
        if method != "GET":
            self._recorder.note(
                "call",
                method=method,
                path=path,
                began=began,
                until=time.time(),
                status=status,
                answer=answer,
                key=key,
                actor=actor,
                **about,
                **extra,
            )
        return status, answer

    async def until_answered(
        self, method: str, path: str, body: Any = None, **about: Any
    ) -> tuple[int, dict[str, Any]]:
        """Nobody there, 503 and a request that is still under way are no answers; 500 is one, if a bad one."""
        deadline = time.monotonic() + PERSISTENCE
        while time.monotonic() < deadline:
            status, answer = await self.once(method, path, body, **about)
            under_way = status == 409 and answer.get("code") == "in_flight"
            if status not in (0, 503) and not under_way:
                return status, answer
            await asyncio.sleep(TRY_AGAIN)
        raise AssertionError(f"{method} {path} was not answered within {PERSISTENCE:g} s")

    async def get(self, path: str, **query: Any) -> dict[str, Any] | None:
        """None when it cannot be had right now."""
        status, answer = await self.once("GET", str(httpx.URL(path, params=query)))
        return answer if status == 200 else None

    def submits(self, plan: Plan, gate: str = "off") -> None:
        walked = [n["id"] for n in plan.nodes if n.get("kind") == "noop"]
        nodes = {n["id"]: n["deps"] for n in plan.nodes}
        self._recorder.note("plan", name=plan.name, nodes=nodes, walked=walked, gate=gate)

    async def launch(self, plan: Plan, *, gate: str = "off", **options: Any) -> str:
        """The id of the run. Every third time the client asks once more, as if the answer had been lost."""
        self.submits(plan, gate)
        self._launches += 1
        body = {"title": f"Chaos {plan.name}", "task": plan.nodes, "gate": gate, "options": options}
        about = {"key": f"launch {plan.name}", "plan": plan.name}
        status, answer = await self.until_answered("POST", "/tasks", body, **about)
        if self._launches % 3 == 0:
            await self.until_answered("POST", "/tasks", body, **about)
        assert status == 202, f"a run was to be launched, and that was answered {status}: {answer}"
        return str(answer["run_id"])

    async def draft(self) -> str:
        title = f"Draft {uuid4()}"
        status, answer = await self.until_answered(
            "POST", "/tasks", {"title": title, "gate": "off"}, key=title, drafts=True
        )
        assert status == 201, f"a task was to be drafted, and that was answered {status}: {answer}"
        return str(answer["id"])

    async def task_with(self, plan: Plan) -> str:
        """A task that is ready to be started, again and again."""
        self.submits(plan)
        task = await self.draft()
        graph = {"task_id": task, "graph": plan.nodes}
        await self.until_answered("POST", "/plans", graph, key=f"plan {plan.name}")
        return task

    async def start(self, task: str, plan: Plan) -> str:
        """Empty when it was refused."""
        key = f"start {uuid4()}"
        status, answer = await self.until_answered("POST", f"/tasks/{task}/start", key=key, plan=plan.name)
        return str(answer.get("run_id", "")) if status == 202 else ""

    async def order(self, run: str, action: str) -> bool:
        """Whether it was accepted."""
        about = {"key": f"{action} {uuid4()}", "run": run, "action": action}
        status, _ = await self.until_answered("PATCH", f"/runs/{run}", {"action": action}, **about)
        return status == 200


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {"text": response.text[:500]}
    return found if isinstance(found, dict) else {"value": found}
