"""Sidecars over HTTP: a page of a run's, and that of a node, as they were written, under both families of paths."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from contracts.errors import Code, Rejection
from contracts.page import Page
from contracts.sidecar_requests import GetSidecar, ListSidecars, SidecarDocument
from tests.contracts.sidecar_example import EXAMPLE
from tests.gateway.conftest import StartGateway, StartOwner

RUN, NODE = uuid4(), uuid4()


def answers() -> dict[type[Any], Any]:
    def one(request: GetSidecar) -> SidecarDocument:
        if request.node_id != NODE:
            raise Rejection(Code.NOT_FOUND, "node x has called no model so far")
        return SidecarDocument(document=EXAMPLE)

    return {
        ListSidecars: lambda _: Page(items=[SidecarDocument(document=EXAMPLE)], total=3),
        GetSidecar: one,
    }


@pytest.mark.parametrize("prefix", ["", "/companies/default"])
async def test_the_sidecars_of_a_run_are_a_page(
    start_gateway: StartGateway, start_owner: StartOwner, prefix: str
) -> None:
    async with start_owner("executor", answers()) as owner, start_gateway() as gateway:
        query = {"limit": 1, "offset": 1, "node_id": str(NODE), "attempt": 2, "order_by": "-created_at"}
        answer = await gateway.client.get(
            f"{prefix}/runs/{RUN}/sidecars", params=query, headers={"X-Timezone": "Europe/Paris"}
        )
        page = answer.json()
        assert (answer.status_code, page["items"]) == (200, [EXAMPLE]), "the evidence keeps its own times"
        assert (page["total"], page["limit"], page["offset"]) == (3, 1, 1)
        assert answer.headers["X-Total-Count"] == "3"
        assert f"{prefix}/runs/{RUN}/sidecars" in page["_links"]["next"]
        (asked, _) = owner.asked[-1]
        assert (asked.node_id, asked.attempt, asked.order_by) == (NODE, 2, "-created_at")


@pytest.mark.parametrize("prefix", ["", "/companies/default"])
async def test_the_sidecar_of_a_node_is_the_bare_document(
    start_gateway: StartGateway, start_owner: StartOwner, prefix: str
) -> None:
    async with start_owner("executor", answers()) as owner, start_gateway() as gateway:
        answer = await gateway.client.get(f"{prefix}/nodes/{NODE}/sidecar?attempt=2&call=3")
        assert (answer.status_code, answer.json()) == (200, EXAMPLE)
        (asked, _) = owner.asked[-1]
        assert (asked.attempt, asked.call) == (2, 3)


async def test_one_that_is_not_valid_is_shown_as_it_is(start_gateway: StartGateway, start_owner: StartOwner) -> None:
    broken = {"metadata": {"invalid": ["it could not be written"]}}
    document = SidecarDocument(document=broken)
    given = {GetSidecar: lambda _: document, ListSidecars: lambda _: Page(items=[document], total=1)}
    async with start_owner("executor", given), start_gateway() as gateway:
        assert (await gateway.client.get(f"/nodes/{NODE}/sidecar")).json() == broken
        assert (await gateway.client.get(f"/runs/{RUN}/sidecars")).json()["items"] == [broken]


async def test_none_is_404_and_a_number_out_of_range_422(start_gateway: StartGateway, start_owner: StartOwner) -> None:
    async with start_owner("executor", answers()), start_gateway() as gateway:
        missing = await gateway.client.get(f"/nodes/{uuid4()}/sidecar")
        assert (missing.status_code, missing.json()["detail"]) == (404, "node x has called no model so far")
        for wrong in ("attempt=0", "call=3000000000", "attempt=x"):
            assert (await gateway.client.get(f"/nodes/{NODE}/sidecar?{wrong}")).status_code == 422
