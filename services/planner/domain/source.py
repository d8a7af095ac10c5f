"""Where does the plan of an ad-hoc run come from, and what holds for the run?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import Field

from contracts.errors import Code, Rejection
from contracts.plan import Gate, PlanGraph, Strict
from contracts.planner import LaunchTask, TaskSpec
from services.planner.domain.assignment import with_acceptance
from services.planner.domain.demo import DEMO
from services.planner.domain.launch import Terms

DEMO_TYPE = "demo"


@dataclass(frozen=True, slots=True)
class Explicit:
    """A plan that is there: it starts at once."""

    graph: PlanGraph
    origin: str  # explicit or demo


class Brief(Strict):
    """What the supervisor plans from."""

    title: str
    description: str | None = None
    acceptance: list[str] = Field(default_factory=list)
    params: dict[str, Any] = Field(default_factory=dict)


class DraftOrder(Strict):
    """What a job that drafts a plan has to do; with `terms` for a run, whose provider drafts the plan too."""

    brief: Brief
    terms: Terms | None = None


def source(request: LaunchTask, loaded: PlanGraph | TaskSpec | None = None) -> Explicit | Brief:
    """`loaded` is what the request's task file held. Raises Rejection when nothing says what to do."""
    found = request.task or request.task_spec or loaded
    assert found is not None, "LaunchTask carries exactly one source"
    drafted = request.options.use_supervisor
    if isinstance(found, PlanGraph):
        return Explicit(_not_drafted(found, drafted), "explicit")
    if found.plan is not None:
        return Explicit(with_acceptance(_not_drafted(found.plan, drafted), found.acceptance), "explicit")
    if _is_demo(found) and not drafted:
        return Explicit(with_acceptance(DEMO, found.acceptance), DEMO_TYPE)
    if drafted or found.description or request.description:
        description = "\n\n".join(text for text in (request.description, found.description) if text) or None
        return Brief(title=request.title, description=description, acceptance=found.acceptance, params=found.params)
    raise _says_nothing(found)


def spec_of(request: LaunchTask, loaded: PlanGraph | TaskSpec | None = None) -> TaskSpec:
    if isinstance(loaded, TaskSpec):
        return loaded
    return request.task_spec or TaskSpec()


def gate_of(request: LaunchTask, spec: TaskSpec) -> Gate | None:
    """The body's word before that of its task_spec, and that before the options; None is the server's default."""
    return request.gate or spec.gate or request.options.gate


def _is_demo(spec: TaskSpec) -> bool:
    return (spec.type or "").casefold() == DEMO_TYPE


def _not_drafted(graph: PlanGraph, drafted: bool) -> PlanGraph:
    if drafted:
        raise Rejection(
            Code.BAD_REQUEST, "options.use_supervisor asks for a drafted plan, but a plan is given: drop one"
        )
    return graph


def _says_nothing(spec: TaskSpec) -> Rejection:
    kind = f"type {spec.type!r} is unknown here (known: {DEMO_TYPE}), so " if spec.type else ""
    return Rejection(
        Code.INVALID,
        f"{kind}task_spec must hold a plan, a description for the supervisor, or type {DEMO_TYPE!r}",
        errors=[f"task_spec: {kind}give a plan, a description, or type {DEMO_TYPE!r}"],
    )
