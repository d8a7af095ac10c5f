"""Plan graphs: the shape that people, models and services exchange. Whether a graph is sound is the planner's question."""

from __future__ import annotations

from enum import StrEnum
from math import isfinite
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

MAX_NODES = 200
MAX_PARAMS_DEPTH = 20


def _printable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the NUL character (\\u0000)")
    return text


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else [] if value is None else value


Title = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_printable)
]
Text = Annotated[str, StringConstraints(max_length=20_000), AfterValidator(_printable)]
NodeKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Name = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), AfterValidator(_printable)]
_VISIBLE = r"A-Za-z0-9_~@+()\[\],=$!\-"  # bundlers write names like [id]-abc.js and $slug.js
FilePath = Annotated[  # of a file in a deliverable: segments of these characters, none of them hidden
    str,
    StringConstraints(
        pattern=rf"^[{_VISIBLE}][{_VISIBLE}. ]{{0,99}}(/[{_VISIBLE}][{_VISIBLE}. ]{{0,99}}){{0,19}}$",
        max_length=300,
    ),
]
Lines = Annotated[list[Text], BeforeValidator(_as_list)]


def _storable(value: Any, depth: int = 0) -> Any:
    """jsonb takes neither NUL nor NaN, and nobody reads what is nested deeper than this."""
    if depth > MAX_PARAMS_DEPTH:
        raise ValueError(f"must not be nested deeper than {MAX_PARAMS_DEPTH} levels")
    if isinstance(value, str):
        _printable(value)
    elif isinstance(value, float) and not isfinite(value):
        raise ValueError("must not contain NaN or Infinity")
    elif isinstance(value, dict):
        for name, item in value.items():
            _printable(name)
            _storable(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _storable(item, depth + 1)
    return value


Params = Annotated[dict[str, Any], AfterValidator(_storable)]


class Gate(StrEnum):
    """What a review may do: hold a node back, only score it, or not happen at all."""

    GATE = "gate"
    OBSERVE = "observe"
    OFF = "off"


class ArtifactKind(StrEnum):
    PREVIEW = "preview"  # a website at an address of its own
    DOCUMENT = "document"  # Markdown, HTML, PDF, text, JSON
    FILE = "file"
    LINK = "link"
    IMAGE = "image"  # screenshots included


class NodeKind(StrEnum):
    AGENT = "agent"  # a model call
    NOOP = "noop"  # no model is called: tests and benches


class Strict(BaseModel):
    """A frozen value that refuses unknown fields, for what people and models write."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Deliverable(Strict):
    """What a node owes: a file by its path, or anything of a kind. As text: a path, or `preview`."""

    path: FilePath | None = None
    kind: ArtifactKind | None = None

    @model_validator(mode="before")
    @classmethod
    def _accept_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": value} if value in set(ArtifactKind) else {"path": value}
        return value

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.path is None and self.kind is None:
            raise ValueError("name a `path`, a `kind`, or both")
        return self


class PlanNode(Strict):
    """One step of a plan. Only `id` and `title` are required."""

    id: NodeKey
    title: Title
    deps: list[NodeKey] = Field(default_factory=list, max_length=MAX_NODES)
    suggested_agent_role: Name | None = None
    acceptance: Lines = Field(default_factory=list, max_length=50)
    risks: Lines = Field(default_factory=list, max_length=50)
    assumptions: Lines = Field(default_factory=list, max_length=50)
    notes: Text | None = None
    instructions: Text | None = None
    deliverables: list[Deliverable] = Field(default_factory=list, max_length=50)
    kind: NodeKind = NodeKind.AGENT
    params: Params = Field(default_factory=dict)
    timeout_s: float | None = Field(default=None, gt=0, le=86_400)
    max_attempts: int | None = Field(default=None, ge=1, le=20)


class Edge(Strict):
    source: NodeKey
    target: NodeKey


class PlanGraph(Strict):
    """`{version, plan, edges}`; a bare list of nodes is read as its `plan`, and edges follow from `deps`."""

    version: Literal["1.0"] = "1.0"
    plan: list[PlanNode]
    edges: list[Edge] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _accept_a_list(cls, value: Any) -> Any:
        if isinstance(value, list):
            return {"plan": value}
        if isinstance(value, dict) and "plan" not in value and "nodes" in value:
            return {**{k: v for k, v in value.items() if k != "nodes"}, "plan": value["nodes"]}
        return value


class ModelRef(Strict):
    """A model of a provider, as `LLM_FALLBACKS` and assignments name it."""

    provider: Name
    model: Name


class Assignment(Strict):
    """Who does a node, and with which model. `agent_id` is text until agents have profiles.

    `fallbacks` take over, in order, while the model is not to be had; left out, the server's own do; an empty list
    forbids them.
    """

    node_id: NodeKey
    role: Name | None = None
    agent_id: Name | None = None
    llm_backend: Name | None = None
    llm_model: Name | None = None
    fallbacks: list[ModelRef] | None = Field(default=None, max_length=10)
    params: Params = Field(default_factory=dict)
