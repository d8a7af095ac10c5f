"""Feedback over HTTP: given with a request id, once; shown with nodes and attempts; missing said honestly."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from contracts import executor, feedback, review
from contracts.errors import Code, Rejection
from contracts.page import Page
from services.gateway import judging
from tests.gateway.builders import (
    a_feedback,
    a_node,
    a_node_detail,
    a_run,
    a_run_detail,
    a_verdict,
    an_attempt,
    of_the_planner,
)
from tests.gateway.conftest import StartGateway, StartOwner

RUN, NODE, OTHER = uuid4(), uuid4(), uuid4()
WITH_ID = {"X-Request-ID": "demo-1", "X-Role": "editor"}
SEED = {"run_id": str(RUN), "node_id": str(NODE), "source": "human", "score": 35, "comment": "Format JSON invalide"}


def of_feedback() -> dict[type[Any], Any]:
    said = [a_feedback(run_id=RUN, node_id=NODE, attempt=2, source="human", score=90, decision="accept")]
    said += [a_feedback(run_id=RUN, node_id=NODE, attempt=n, in_force=n == 1) for n in (2, 1)]

    def given(request: feedback.GiveFeedback) -> feedback.Feedback:
        if request.node_id != NODE:
            raise Rejection(Code.NOT_FOUND, f"there is no node {request.node_id}")
        return a_feedback(run_id=request.run_id, node_id=NODE, score=request.score, source=request.source)

    policy = feedback.Policy(
        scope="agent", scope_id="a", critical_threshold=70, auto_revise=None, set_by="ada", updated_at=datetime.now(UTC)
    )
    return {
        feedback.GiveFeedback: given,
        feedback.ListFeedbacks: lambda _: Page(items=said, total=3),
        feedback.GetFeedback: lambda r: a_feedback(id=r.feedback_id),
        feedback.ListPolicies: lambda _: Page(items=[policy], total=1),
        feedback.GetPolicy: lambda _: policy,
        feedback.SetPolicy: lambda _: policy,
        feedback.RemovePolicy: lambda _: feedback.PolicyGone(removed=policy),
    }


def of_the_executor() -> dict[type[Any], Any]:
    held = a_node(id=NODE, run_id=RUN, status="paused", attempt=2, pause_reasons=["verdict"], verdict=a_verdict())
    nodes = [held, a_node(id=OTHER, run_id=RUN, key="b")]
    waits = {"run_id": RUN, "run_title": "a run", "task_id": None, "project_id": "default", "node_id": NODE, "key": "a"}
    waits |= {
        "title": "first",
        "status": "paused",
        "attempt": 2,
        "role": None,
        "agent_id": None,
        "verdict": a_verdict(),
    }
    waits |= {"output_preview": "text", "since": datetime.now(UTC), "descendants": ["b"]}
    return {
        executor.GetRun: lambda r: a_run_detail(a_run(id=r.run_id, needs_attention=True), nodes),
        executor.ListNodes: lambda _: Page(items=nodes, total=2),
        executor.GetNode: lambda r: a_node_detail(id=r.node_id, output="inline"),
        review.ListHeld: lambda _: Page(items=[review.HeldNode.model_validate(waits)], total=1),
        review.ListAttempts: lambda r: review.Attempts(
            node_id=r.node_id, run_id=RUN, key="a", current=2, items=[an_attempt(1), an_attempt(2, diff="@@ -1 +1 @@")]
        ),
        review.RerunNode: lambda r: review.NodeRerun(
            node_id=r.node_id, run_id=RUN, status_after="queued", actual="paused", attempt=3, reopened=False
        ),
    }


# given ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/companies/acme"])
async def test_feedback_is_given_as_the_predecessors_scripts_give_it(
    start_gateway: StartGateway, start_owner: StartOwner, prefix: str
) -> None:
    async with start_owner("feedback", of_feedback()) as owner, start_gateway() as gateway:
        before = datetime.now(UTC)
        given = await gateway.client.post(f"{prefix}/feedbacks", json=SEED, headers=WITH_ID)
        assert (given.status_code, given.json()["score"]) == (201, 35)
        assert given.headers["Location"] == f"{prefix}/feedbacks/{given.json()['id']}"
        request, context = owner.asked[-1]
        assert (request.comment, request.seen, context.request_id) == ("Format JSON invalide", None, "demo-1")
        assert before <= request.asked_at <= datetime.now(UTC)
        assert request.company == (prefix.rpartition("/")[2] or "default")
        found = await gateway.client.get(given.headers["Location"])
        assert found.json()["id"] == given.json()["id"]


async def test_without_a_request_id_of_the_clients_own_it_is_a_400_and_nobody_is_asked(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_owner("feedback", of_feedback()) as owner, start_gateway() as gateway:
        refused = await gateway.client.post("/feedbacks", json=SEED)
        assert (refused.status_code, "X-Request-ID" in refused.json()["detail"]) == (400, True)
        assert owner.asked == []
        described = (await gateway.client.get("/openapi.json")).json()
        named = {each["$ref"].rpartition("/")[2] for each in described["paths"]["/feedbacks"]["post"]["parameters"]}
        assert "NeededRequestId" in named
        assert "RequestId" not in named


async def test_what_is_no_score_is_a_422_that_names_the_field(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_owner("feedback", of_feedback()) as owner, start_gateway() as gateway:
        for score in (-1, 101, 35.5, 35.0, "35", True, [35], 10**30):
            refused = await gateway.client.post("/feedbacks", json=SEED | {"score": score}, headers=WITH_ID)
            assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "score"]), score
        for wrong in ({"source": "robot"}, {"attempt": -1}, {"seen": "x"}, {"scor": 3}, {"run_id": None}):
            refused = await gateway.client.post("/feedbacks", json=SEED | wrong, headers=WITH_ID)
            assert (refused.status_code, next(iter(wrong)) in refused.text) == (422, True), wrong
        assert owner.asked == []
        for score in (0, 100, None):
            given = await gateway.client.post("/feedbacks", json=SEED | {"score": score}, headers=WITH_ID)
            assert given.status_code == 201, score
        unknown = await gateway.client.post("/feedbacks", json=SEED | {"node_id": str(OTHER)}, headers=WITH_ID)
        assert (unknown.status_code, str(OTHER) in unknown.json()["detail"]) == (404, True)


async def test_who_comes_second_is_told_the_verdict_that_is_in_force(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    current = a_feedback(source="human", reviewer="ada", score=80)

    def taken(_: Any) -> Any:
        raise Rejection(Code.VERDICT_TAKEN, "ada has judged it meanwhile", current=current.model_dump(mode="json"))

    async with start_owner("feedback", {feedback.GiveFeedback: taken}), start_gateway() as gateway:
        refused = await gateway.client.post("/feedbacks", json=SEED | {"seen": str(uuid4())}, headers=WITH_ID)
        assert (refused.status_code, refused.json()["code"]) == (409, "verdict_taken")
        assert refused.json()["details"]["current"]["score"] == 80


async def test_feedbacks_are_listed_by_what_they_are_about(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_owner("feedback", of_feedback()) as owner, start_gateway() as gateway:
        query = f"run_id={RUN}&node_id={NODE}&source=human&critical=true&limit=1&offset=1&order_by=-score"
        page = (await gateway.client.get(f"/feedbacks?{query}")).json()
        assert (page["total"], page["limit"], page["_links"]["next"] is not None) == (3, 1, True)
        asked, _ = owner.asked[-1]
        assert (asked.run_id, asked.node_id, asked.source, asked.critical) == (RUN, NODE, "human", True)
        assert (asked.limit, asked.offset, asked.order_by) == (1, 1, "-score")
        zoned = await gateway.client.get("/feedbacks", headers={"X-Timezone": "Europe/Paris"})
        assert zoned.json()["items"][0]["created_at"] == "2026-07-01T14:00:00+02:00"


# shown ----------------------------------------------------------------------------------------------------------------


async def test_nodes_come_with_what_was_said_of_them_the_oldest_first(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with (
        start_owner("feedback", of_feedback()) as owner,
        start_owner("executor", of_the_executor()),
        start_gateway() as gateway,
    ):
        page = (await gateway.client.get(f"/runs/{RUN}/nodes")).json()
        assert ([f["attempt"] for f in page["items"][0]["feedbacks"]], page["degraded"]) == ([1, 2, 2], [])
        assert page["items"][1]["feedbacks"] == []
        assert len(owner.asked) == 1, "one question for the whole page"
        assert page["items"][0]["verdict"]["score"] == 35
        node = (await gateway.client.get(f"/nodes/{NODE}")).json()
        assert (len(node["feedbacks"]), node["output"], node["degraded"]) == (3, "inline", [])
        run = (await gateway.client.get(f"/runs/{RUN}")).json()
        assert run["needs_attention"] is True
        assert [len(node["feedbacks"]) for node in run["dag"]["nodes"]] == [3, 0]
        asked = len(owner.asked)
        await gateway.client.get(f"/runs/{RUN}?include_nodes=false")
        assert len(owner.asked) == asked, "whoever wants no nodes makes no work"


async def test_without_the_feedback_service_nodes_are_shown_with_the_missing_part_named(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_owner("executor", of_the_executor()), start_gateway() as gateway:
        page = (await gateway.client.get(f"/runs/{RUN}/nodes")).json()
        assert (page["items"][0]["feedbacks"], page["degraded"]) == (None, ["feedbacks"])
        node = (await gateway.client.get(f"/nodes/{NODE}")).json()
        assert (node["feedbacks"], node["degraded"]) == (None, ["feedbacks"])
        run = (await gateway.client.get(f"/runs/{RUN}")).json()
        assert (run["dag"]["nodes"][0]["feedbacks"], run["degraded"]) == (None, ["feedbacks", "artifacts"])
        attempts = (await gateway.client.get(f"/nodes/{NODE}/attempts")).json()
        assert (attempts["items"][0]["score"], attempts["degraded"]) == (None, ["feedbacks"])
        for path in ("/feedbacks", f"/feedbacks/{uuid4()}", "/feedback-policies", "/quality?by=role"):
            answer = await gateway.client.get(path)
            assert (answer.status_code, "Retry-After" in answer.headers) == (503, True), path


async def test_a_feedback_service_that_hangs_keeps_no_reader_of_nodes(
    start_gateway: StartGateway, start_owner: StartOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "PATIENCE", 0.05)
    hanging = asyncio.Event()

    async def never(_: Any) -> Any:
        await hanging.wait()

    async with (
        start_owner("feedback", {feedback.ListFeedbacks: never}),
        start_owner("executor", of_the_executor()),
        start_gateway() as gateway,
    ):
        page = (await gateway.client.get(f"/runs/{RUN}/nodes")).json()
        assert (page["items"][0]["feedbacks"], page["degraded"]) == (None, ["feedbacks"])
        hanging.set()


async def test_many_feedbacks_are_turned_through_and_told_once(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    every = [a_feedback(node_id=NODE, attempt=n) for n in range(450, 0, -1)]

    def page(request: feedback.ListFeedbacks) -> Page[feedback.Feedback]:
        moved = max(0, request.offset - 1)  # one came in while the first page was read
        return Page(items=every[moved : moved + request.limit], total=len(every))

    async with (
        start_owner("feedback", {feedback.ListFeedbacks: page}),
        start_owner("executor", of_the_executor()),
        start_gateway() as gateway,
    ):
        said = (await gateway.client.get(f"/nodes/{NODE}")).json()["feedbacks"]
        assert [each["attempt"] for each in said] == list(range(1, 451))


async def test_attempts_come_with_the_verdict_in_force_on_each(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with (
        start_owner("feedback", of_feedback()),
        start_owner("executor", of_the_executor()),
        start_gateway() as gateway,
    ):
        found = (await gateway.client.get(f"/nodes/{NODE}/attempts")).json()
        scores = [(each["number"], each["score"], each["decision"], each["source"]) for each in found["items"]]
        assert scores == [(1, 35, "revise", "auto"), (2, 90, "accept", "human")]
        assert (found["current"], found["items"][1]["diff"], found["degraded"]) == (2, "@@ -1 +1 @@", [])


# orders ---------------------------------------------------------------------------------------------------------------


async def test_a_node_runs_again_with_guidance_and_says_who_asked(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_owner("executor", of_the_executor()) as owner, start_gateway() as gateway:
        body = {"prompt": "p", "instructions": "i", "llm_backend": "openai", "llm_model": "m", "keep_descendants": True}
        ada = {"X-Actor": "ada", "X-Request-ID": "r-1"}
        answer = await gateway.client.post(f"/nodes/{NODE}/rerun", json=body, headers=ada)
        assert (answer.status_code, answer.json()["attempt"]) == (202, 3)
        assert answer.headers["Location"] == f"/nodes/{NODE}/attempts"
        order, _ = owner.asked[-1]
        assert {name: getattr(order, name) for name in body} == body
        assert order.by == "ada, admin (request r-1)"
        bare = await gateway.client.post(f"/companies/acme/nodes/{NODE}/rerun")
        assert (bare.status_code, bare.headers["Location"]) == (202, f"/companies/acme/nodes/{NODE}/attempts")
        assert owner.asked[-1][0].prompt is None
        for wrong in ({"promt": "x"}, {"keep_descendants": "yes"}, {"prompt": 3}):
            refused = await gateway.client.post(f"/nodes/{NODE}/rerun", json=wrong)
            assert (refused.status_code, next(iter(wrong)) in refused.text) == (422, True), wrong


async def test_the_same_key_is_the_same_rerun(start_gateway: StartGateway, start_owner: StartOwner) -> None:
    once = {"Idempotency-Key": "k-1"}
    async with start_owner("executor", of_the_executor()) as owner, start_gateway() as gateway:
        for prefix in ("", "/companies/default"):
            await gateway.client.post(f"{prefix}/nodes/{NODE}/rerun", headers=once)
        first, second = (order.command_id for order, _ in owner.asked)
        assert first == second


async def test_who_runs_a_node_again_at_once_takes_the_word_of_a_person_along(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    said = [a_feedback(node_id=NODE, attempt=n, source="human", comment=f"said of {n}") for n in (2, 1)]
    about = {"verdicts": said}

    def listed(request: feedback.ListFeedbacks) -> Page[feedback.Feedback]:
        assert (request.node_id, request.in_force) == (NODE, True)
        return Page(items=about["verdicts"], total=len(about["verdicts"]))

    async with (
        start_owner("feedback", {feedback.ListFeedbacks: listed}),
        start_owner("executor", of_the_executor()) as owner,
        start_gateway() as gateway,
    ):
        await gateway.client.post(f"/nodes/{NODE}/rerun")
        assert owner.asked[-1][0].critique == review.Critique(of_attempt=2, text="said of 2")
        about["verdicts"] = [a_feedback(node_id=NODE, attempt=2), *said[1:]]
        await gateway.client.post(f"/nodes/{NODE}/rerun")
        assert owner.asked[-1][0].critique is None, "the executor has the critique of a review"


async def test_what_waits_for_a_person_is_a_page(start_gateway: StartGateway, start_owner: StartOwner) -> None:
    async with start_owner("executor", of_the_executor()) as owner, start_gateway() as gateway:
        page = (await gateway.client.get(f"/reviews?run_id={RUN}&limit=10")).json()
        (held,) = page["items"]
        assert (held["key"], held["verdict"]["critique"], held["descendants"]) == ("a", "it does not parse", ["b"])
        assert (owner.asked[-1][0].run_id, owner.asked[-1][0].limit) == (RUN, 10)


async def test_policies_are_set_listed_and_removed_under_both_families_of_paths(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with (
        start_owner("feedback", of_feedback()) as owner,
        start_owner("planner", of_the_planner()),
        start_gateway() as gateway,
    ):
        for prefix in ("", "/companies/acme"):
            path = f"{prefix}/feedback-policies/agent/a%2Fb"
            put = await gateway.client.put(path, json={"critical_threshold": 70}, headers={"X-Actor": "ada"})
            assert put.json()["critical_threshold"] == 70
            order, _ = owner.asked[-1]
            assert (order.scope, order.scope_id, order.auto_revise) == ("agent", "a/b", None)
            assert order.by.startswith("ada, admin")
            listed = await gateway.client.get(f"{prefix}/feedback-policies?scope=agent")
            assert (listed.json()["total"], owner.asked[-1][0].scope) == (1, "agent")
            assert (await gateway.client.get(path)).json()["critical_threshold"] == 70
            assert (owner.asked[-1][0].scope, owner.asked[-1][0].scope_id) == ("agent", "a/b")
            assert (await gateway.client.delete(path, headers={"X-Actor": "ada"})).json()["removed"]["scope"] == "agent"
            assert owner.asked[-1][0].by.startswith("ada, admin")
        for wrong in ({"critical_threshold": 101}, {"auto_revise": 11}, {"auto_revise": -1}, {"threshold": 3}):
            refused = await gateway.client.put("/feedback-policies/agent/ada", json=wrong)
            assert (refused.status_code, next(iter(wrong)) in refused.text) == (422, True), wrong
        assert (await gateway.client.put("/feedback-policies/galaxy/x", json={})).status_code == 422


async def test_a_company_that_is_not_there_has_no_empty_pages_and_no_policies(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    nothing = {
        feedback.ListFeedbacks: lambda _: Page(items=[], total=0),
        feedback.ListPolicies: lambda _: Page(items=[], total=0),
        feedback.GetQuality: lambda r: feedback.Quality(by=r.by, items=[]),
    }
    async with (
        start_owner("feedback", nothing) as owner,
        start_owner("planner", of_the_planner()),
        start_gateway() as gateway,
    ):
        for path in ("feedbacks", "feedback-policies", "quality?by=role"):
            assert (await gateway.client.get(f"/{path}")).json()["items"] == []
            assert (await gateway.client.get(f"/companies/acme/{path}")).json()["items"] == []
            assert (await gateway.client.get(f"/companies/nobody/{path}")).status_code == 404, path
        asked = len(owner.asked)
        put = await gateway.client.put("/companies/nobody/feedback-policies/agent/a", json={"auto_revise": 0})
        assert (put.status_code, len(owner.asked)) == (404, asked), "nothing is set"


async def test_a_viewer_judges_nothing_where_roles_count(start_gateway: StartGateway, start_owner: StartOwner) -> None:
    viewer = {"X-Role": "viewer", "X-Request-ID": "r-1"}
    async with start_owner("feedback", of_feedback()) as owner, start_gateway(feature_rbac=True) as gateway:
        for method, path in (
            ("POST", "/feedbacks"),
            ("POST", f"/nodes/{NODE}/rerun"),
            ("PUT", "/feedback-policies/agent/a"),
            ("DELETE", "/feedback-policies/agent/a"),
        ):
            refused = await gateway.client.request(method, path, json={}, headers=viewer)
            assert refused.status_code == 403, path
        assert owner.asked == []
