"""What does a model have to say to give a plan, and what of its answer can be used?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from contracts.plan import ArtifactKind, Lines, PlanGraph
from services.planner.domain.graph import completed, violations

NOT_A_KEY = re.compile(r"[^A-Za-z0-9_.-]+")
NO_PATH = "a path is relative, without `..`, hidden names or spaces at its ends, like `assets/app.js`"
MAX_ANSWER = 200_000  # characters of an unusable answer that are kept


class DraftedDeliverable(BaseModel):
    """Something that is handed over beside the step's answer."""

    kind: ArtifactKind = Field(description="`preview` is a website that opens; `document`, `image`, `file` are files")
    path: str | None = Field(
        default=None,
        description="of the file, like `report.md`; of a preview the page that opens first; none of a link",
    )


class DraftedNode(BaseModel):
    """One step of the plan."""

    id: str = Field(description="short and unique, like `research`; letters, digits, - and _")
    title: str = Field(description="what is done, as an instruction of at most 15 words")
    deps: list[str] = Field(default_factory=list, description="ids of the steps whose results this step needs")
    suggested_agent_role: str = Field(description="the profession of who should do it, like `copywriter`")
    instructions: str | None = Field(default=None, description="how to do it, in two to five sentences")
    acceptance: Lines = Field(default_factory=list, description="criteria by which the result can be checked")
    risks: Lines = Field(default_factory=list, description="what could go wrong")
    assumptions: Lines = Field(default_factory=list, description="what is taken for granted")
    deliverables: list[DraftedDeliverable] = Field(
        default_factory=list, description="what the step hands over beside its answer; nothing for most steps"
    )
    notes: str | None = None


class DraftedPlan(BaseModel):
    """A plan: steps that form an acyclic graph by their `deps`."""

    plan: list[DraftedNode]


@dataclass(frozen=True, slots=True)
class Draft:
    """What came out of drafting. Without a graph, `errors` says why and `answer` what the model said."""

    graph: PlanGraph | None
    origin: str  # supervisor, or repaired when it took a second round
    errors: tuple[str, ...] = ()
    answer: str | None = None
    tokens: int = 0
    cost_usd: str | None = "0"  # None: a price is unknown


class Call(BaseModel):
    """What one call to the supervisor's model came to. Of an unsound plan, `answer` is what is to be repaired."""

    tokens: int
    cost_usd: Decimal | None  # None: the price is unknown
    answer: str | None = None
    errors: list[str] = Field(default_factory=list)


def spent(calls: Sequence[Call]) -> dict[str, Any]:
    """What a draft has taken so far: the fields of a Draft."""
    costs = [call.cost_usd for call in calls]
    known = [cost for cost in costs if cost is not None]
    total = str(sum(known, Decimal(0))) if len(known) == len(costs) else None
    return {"tokens": sum(call.tokens for call in calls), "cost_usd": total}


def read(drafted: DraftedPlan) -> tuple[PlanGraph | None, list[str]]:
    """The sound graph in a draft, or everything that is wrong with it. Ids are spelled as keys, not refused."""
    nodes = [_keyed(node.model_dump(exclude_none=True)) for node in drafted.plan]
    try:
        graph = PlanGraph.model_validate({"plan": nodes})
    except ValidationError as error:
        return None, [_problem(p) for p in error.errors(include_url=False, include_input=False)]
    broken = violations(graph)
    return (None, broken) if broken else (completed(graph), [])


def _keyed(node: dict[str, Any]) -> dict[str, Any]:
    return {**node, "id": key(node["id"]), "deps": [key(dep) for dep in node["deps"]]}


def key(text: str) -> str:
    return NOT_A_KEY.sub("-", text).strip("-_.")[:64]


def _problem(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    is_path = problem["type"] == "string_pattern_mismatch" and problem["loc"][-1] == "path"
    return f"{place or 'plan'}: {NO_PATH if is_path else problem['msg']}"
