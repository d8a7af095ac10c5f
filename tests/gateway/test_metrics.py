"""Metrics: there when they are wanted, and named by pattern: more ids, companies and subjects make no more of them."""

from __future__ import annotations

from uuid import UUID, uuid4

import httpx
from prometheus_client import REGISTRY

from chassis.testing.eventually import eventually
from contracts import executor, planner
from contracts.envelope import Envelope
from contracts.errors import Code, Rejection
from contracts.run_facts import NodeToken, RunStarted
from contracts.streams import PLANNER_RUNS
from tests.gateway.builders import a_run_detail, a_task
from tests.gateway.conftest import Gateway, Owner, StartGateway, StartOwner
from tests.gateway.sse import watch


async def test_metrics_are_there_only_when_enabled_and_named_by_template(start_gateway: StartGateway) -> None:
    async with start_gateway() as gateway:
        assert (await gateway.client.get("/metrics")).status_code == 404
    async with start_gateway(metrics_enabled=True) as gateway:
        await gateway.client.get(f"/tasks/{uuid4()}")
        text = (await gateway.client.get("/metrics")).text
        assert 'http_requests_total{method="GET",route="/tasks/{task_id}",status="503"}' in text


Series = tuple[str, tuple[str, ...]]


def series() -> set[Series]:
    """Names and label values of everything that is measured in this process; the buckets of a histogram are one."""
    samples = (sample for metric in REGISTRY.collect() for sample in metric.samples)
    return {
        (sample.name, tuple(value for label, value in sample.labels.items() if label != "le")) for sample in samples
    }


async def _ask(client: httpx.AsyncClient, ids: list[UUID]) -> None:
    for n, id in enumerate(ids):
        for path in (f"/tasks/{id}", f"/runs/{id}", f"/nodes/{id}", f"/runs/{id}/events", f"/nowhere-{id}", f"/x{n}/y"):
            await client.get(path, headers={"X-Request-ID": str(id)})
        await client.request(f"BREW{n}", "/tasks")
        await client.post("/tasks", json={"title": str(id)}, headers={"Idempotency-Key": str(id)})
        await client.get(f"/tasks?title_contains={id}&status=unheard-{n}")


async def _tell(owner: Owner, gateway: Gateway, ids: list[UUID]) -> None:
    async with watch(gateway.client, f"/runs/{ids[-1]}/stream") as reader:
        await owner.tell(*(RunStarted(company=f"company-{id.hex[:8]}", run_id=id, title="r") for id in ids))
        await owner.tell(RunStarted(run_id=ids[-1], title="r"))
        for id in ids:
            token = NodeToken(run_id=id, node_id=id, key="a", attempt=1, index=0, text="x")
            await owner.chassis.bus.live(token)
        await reader.until(lambda r: len(r.messages) == 1)


async def test_no_label_holds_an_id_a_company_a_concrete_path_or_a_concrete_subject(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    def missing(_: object) -> object:
        raise Rejection(Code.NOT_FOUND, "there is none")

    answers = {
        planner.GetTask: missing,
        planner.CreateTask: lambda r: planner.TaskCreated(task=a_task(title=r.title)),
        executor.GetRun: lambda _: a_run_detail(),
        executor.GetNode: missing,
    }
    heard: list[object] = []

    async def hear(fact: RunStarted, _: Envelope) -> None:
        heard.append(fact)

    first, more = [uuid4() for _ in range(2)], [uuid4() for _ in range(12)]
    async with (
        start_owner("planner", answers, {PLANNER_RUNS: {RunStarted: hear}}) as asked,
        start_owner("executor", answers) as runs,
        start_gateway() as gateway,
    ):
        await _ask(gateway.client, first)
        await _tell(runs, gateway, first)
        await eventually(lambda: len(heard) == len(first) + 1)
        before = series()
        await _ask(gateway.client, more)
        await _tell(runs, gateway, more)
        await eventually(lambda: len(heard) == len(first + more) + 2)
    assert len(asked.asked) == 2 * len(first + more), "the requests have been handled"
    new = series() - before
    assert len(new) < len(more), f"more ids, companies and subjects must not make more series: {new}"
    concrete = [str(id) for id in first + more] + [f"company-{id.hex[:8]}" for id in first + more]
    concrete += ["BREW", "/nowhere", "/x0", "evt.default"]
    assert not [(name, labels) for name, labels in series() if any(text in "".join(labels) for text in concrete)]
