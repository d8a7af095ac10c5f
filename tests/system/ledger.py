"""The model provider as a witness: which nodes it was called for, when, and how each call ended."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import httpx

from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import Call

MARK = re.compile(r"\bmark:([0-9a-f]{8})/([A-Za-z0-9_.-]+)")


class Ledger:
    """Calls are told apart by a mark in the instructions of each node; see Plan."""

    def __init__(self, llm_url: str) -> None:
        self._url = llm_url.removesuffix("/v1")

    async def calls(self, plan: Plan | None = None) -> list[Call]:
        async with httpx.AsyncClient(timeout=30) as http:
            marked = {"marked": f"mark:{plan.name}/"} if plan is not None else {}
            found = [Call.model_validate(c) for c in (await http.get(f"{self._url}/ledger", params=marked)).json()]
        return [c for c in found if plan is None or plan.name in marks_of(c)]

    async def script(self, *behaviours: Behaviour) -> None:
        """How the next calls behave, one each, whoever makes them."""
        body = json.dumps([b.model_dump(exclude_unset=True) for b in behaviours])
        async with httpx.AsyncClient(timeout=30) as http:
            (await http.post(f"{self._url}/script", content=body)).raise_for_status()

    async def forget_script(self) -> None:
        """What was scripted and not used shall surprise no other test."""
        async with httpx.AsyncClient(timeout=30) as http:
            (await http.delete(f"{self._url}/script")).raise_for_status()

    async def of_node(self, plan: Plan, key: str) -> list[Call]:
        return [c for c in await self.calls(plan) if marks_of(c).get(plan.name) == key]

    async def by_node(self, plan: Plan) -> dict[str, list[Call]]:
        return (await self.by_plan()).get(plan.name, {})

    async def by_plan(self) -> dict[str, dict[str, list[Call]]]:
        """Every marked call there was: plan, node, its calls in their order."""
        found: defaultdict[str, dict[str, list[Call]]] = defaultdict(dict)
        for call in await self.calls():
            for plan, key in marks_of(call).items():
                found[plan].setdefault(key, []).append(call)
        return found

    async def counts(self, plan: Plan) -> Counter[str]:
        return Counter({key: len(calls) for key, calls in (await self.by_node(plan)).items()})

    async def until(self, plan: Plan, holds: Callable[[list[Call]], bool], timeout: float = 60) -> list[Call]:
        async def held() -> list[Call]:
            calls = await self.calls(plan)
            return calls if holds(calls) else []

        return await eventually(held, timeout=timeout, what="the ledger's condition")

    async def until_done(self, plan: Plan, count: int, timeout: float = 60) -> list[Call]:
        return await self.until(plan, lambda calls: sum(c.outcome == "done" for c in calls) >= count, timeout)


class Plan:
    """Nodes whose calls the ledger can tell apart, and whose words rule how the provider behaves."""

    def __init__(self) -> None:
        self.name = uuid4().hex[:8]
        self.nodes: list[dict[str, Any]] = []

    def node(self, key: str, *deps: str, words: str = "", say: str = "", **fields: Any) -> Plan:
        """`words` are those of chassis.testing.fake_behaviour. What the node says holds none of them."""
        instructions = f"mark:{self.name}/{key} {words} say:{say or f'the work of {key}'}"
        self.nodes.append(
            {"id": key, "title": f"Step {key}", "deps": list(deps), "instructions": instructions, **fields}
        )
        return self

    @classmethod
    def layered(cls, layers: int, width: int, words: str = "slow:0.1", say: str = "") -> Plan:
        """Each node depends on two of the layer before."""
        plan = cls()
        for layer in range(layers):
            for n in range(width):
                before = [f"n{layer - 1}-{n}", f"n{layer - 1}-{(n + 1) % width}"] if layer else []
                plan.node(f"n{layer}-{n}", *before, words=words, say=say)
        return plan

    @classmethod
    def chain(cls, length: int, words: str = "") -> Plan:
        plan = cls()
        for n in range(length):
            plan.node(f"c{n}", *([f"c{n - 1}"] if n else []), words=words)
        return plan

    @property
    def keys(self) -> list[str]:
        return [node["id"] for node in self.nodes]


def marks_of(call: Call) -> dict[str, str]:
    return dict(MARK.findall(call.user))


def open_calls(calls: Sequence[Call]) -> list[Call]:
    return [c for c in calls if c.outcome == "open"]
