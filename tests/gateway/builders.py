"""Answers that the owners in these tests give, with every field a client may rely on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from contracts.artifacts import ArtifactCounts, CountArtifacts, ListArtifacts
from contracts.errors import Code, Rejection
from contracts.executor import Node, NodeDetail, Run, RunDetail, RunSummary
from contracts.feedback import Feedback
from contracts.page import Page
from contracts.plan import PlanGraph
from contracts.planner import Plan, PlanVersion, Task
from contracts.review import Attempt
from contracts.task_control import ListProjects, Project
from contracts.verdict import Verdict

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def a_task(**fields: Any) -> Task:
    base: dict[str, Any] = {
        "id": uuid4(),
        "company_id": "default",
        "project_id": "default",
        "title": "a task",
        "description": None,
        "status": "draft",
        "archived": False,
        "ad_hoc": False,
        "gate": None,
        "plan_id": None,
        "run_id": None,
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Task.model_validate(base | fields)


def a_graph() -> PlanGraph:
    return PlanGraph.model_validate([{"id": "a", "title": "first"}, {"id": "b", "title": "second", "deps": ["a"]}])


def a_plan(**fields: Any) -> Plan:
    id = uuid4()
    base: dict[str, Any] = {
        "id": id,
        "plan_id": id,
        "task_id": uuid4(),
        "status": "ready",
        "version": 1,
        "graph": a_graph(),
        "errors": [],
        "assignments": [],
        "created_at": NOON,
        "updated_at": NOON,
    }
    return Plan.model_validate(base | fields)


def a_version(plan_id: UUID, version: int) -> PlanVersion:
    return PlanVersion(
        plan_id=plan_id,
        version=version,
        status="ready",  # type: ignore[arg-type]
        graph=a_graph(),
        errors=[],
        origin="explicit",
        answer=None,
        created_at=NOON,
    )


def a_run(**fields: Any) -> Run:
    base: dict[str, Any] = {
        "id": uuid4(),
        "company_id": "default",
        "project_id": "default",
        "task_id": None,
        "plan_id": None,
        "title": "a run",
        "status": "running",
        "wanted": "run",
        "pause_reasons": [],
        "gate": "off",
        "dry_run": False,
        "error": None,
        "request_id": "r-1",
        "meta": {"since": "2026-07-01T12:00:00Z"},
        "created_at": NOON,
        "started_at": NOON,
        "ended_at": None,
    }
    return Run.model_validate(base | fields)


def a_node(**fields: Any) -> Node:
    return Node.model_validate(_node(fields))


def a_node_detail(**fields: Any) -> NodeDetail:
    return NodeDetail.model_validate(
        _node(fields) | {"output": fields.get("output"), "output_ref": fields.get("output_ref")}
    )


def _node(fields: dict[str, Any]) -> dict[str, Any]:
    base: dict[str, Any] = {
        "id": uuid4(),
        "run_id": uuid4(),
        "key": "a",
        "title": "first",
        "status": "completed",
        "role": "writer",
        "agent_id": None,
        "checksum": "0" * 64,
        "deps": [],
        "attempt": 1,
        "error": None,
        "model": "demo",
        "usage": {},
        "output_preview": "text",
        "output_size": 4,
        "due_at": None,
        "started_at": NOON,
        "ended_at": NOON,
        "duration_ms": 12,
        "created_at": NOON,
        "updated_at": NOON,
    }
    return base | {k: v for k, v in fields.items() if k not in ("output", "output_ref")}


def a_run_detail(run: Run | None = None, nodes: list[Node] | None = None) -> RunDetail:
    summary = RunSummary(
        nodes_total=2,
        nodes_completed=1,
        nodes_failed=0,
        duration_ms=None,
        llm_prompt_tokens=10,
        llm_completion_tokens=5,
        llm_total_tokens=15,
        llm_request_count=1,
        llm_avg_latency_ms=3.0,
        llm_p95_latency_ms=4.0,
        cost_usd="0",
    )
    return RunDetail(run=run or a_run(), summary=summary, nodes=nodes)


NOTHING_DELIVERED: dict[type[Any], Any] = {
    ListArtifacts: lambda _: Page(items=[], total=0),
    CountArtifacts: lambda _: ArtifactCounts(total=0, by_kind={}),
}


def of_the_planner() -> dict[type[Any], Any]:
    """Knows the companies default and acme."""

    def projects(request: ListProjects) -> Page[Project]:
        if request.company not in ("default", "acme"):
            raise Rejection(Code.NOT_FOUND, f"there is no company {request.company!r}")
        return Page(items=[], total=0)

    return {ListProjects: projects}


def a_feedback(**fields: Any) -> Feedback:
    base: dict[str, Any] = {
        "id": uuid4(),
        "company_id": "default",
        "project_id": "default",
        "task_id": None,
        "run_id": uuid4(),
        "node_id": uuid4(),
        "node_key": "a",
        "attempt": 1,
        "source": "auto",
        "reviewer": "demo/reviewer",
        "score": 35,
        "threshold": 60,
        "decision": "revise",
        "critical": True,
        "in_force": True,
        "comment": "it does not parse",
        "metadata": {},
        "evaluation": {},
        "request_id": "r-1",
        "created_at": NOON,
    }
    return Feedback.model_validate(base | fields)


def a_verdict(**fields: Any) -> Verdict:
    base: dict[str, Any] = {
        "feedback_id": uuid4(),
        "attempt": 1,
        "version": 1,
        "effect": "hold",
        "decision": "revise",
        "critical": True,
        "score": 35,
        "source": "auto",
        "reviewer": None,
        "critique": "it does not parse",
        "at": NOON,
    }
    return Verdict.model_validate(base | fields)


def an_attempt(number: int, **fields: Any) -> Attempt:
    base: dict[str, Any] = {
        "number": number,
        "status": "succeeded",
        "model": "demo",
        "requested": None,
        "usage": {},
        "duration_ms": 12,
        "error": None,
        "guidance": None,
        "output": "text",
        "output_size": 4,
        "checksum": "0" * 64,
        "diff": None,
        "started_at": NOON,
        "ended_at": NOON,
    }
    return Attempt.model_validate(base | fields)
