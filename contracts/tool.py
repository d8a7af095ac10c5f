"""Tools that models may use while they work on a node: declared by their owner in its module, and run by it on request.

A tool is a request whose arguments come from the model and all else from the executor:

class SearchArguments(Strict):
    query: str

class Search(UseTool, owner="rag", tool="search", description="Find passages in the company's documents."):
    arguments: SearchArguments
"""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from pydantic import BaseModel

from contracts.message import Request
from contracts.refs import Value


class ToolContext(Value):
    """Where the tool is used; never from the model. `effect` counts what the attempt has asked tools for, from 1."""

    run_id: UUID
    node_id: UUID
    attempt: int
    effect: int


class ToolResult(Value):
    """What the model is told. A refusal (Rejection) is told to it as well."""

    text: str


class UseTool(Request[ToolResult]):
    """One use of a tool. It is asked for again, under the same `command_id`, until it is answered."""

    description: ClassVar[str]  # for the model

    command_id: UUID
    context: ToolContext
    arguments: BaseModel  # each tool has a model of its own for them

    def __init_subclass__(
        cls, *, owner: str = "", tool: str = "", description: str = "", patience: float = 30.0, **kw: Any
    ) -> None:
        super().__init_subclass__(owner=owner, entity="tool", verb=tool, patience=patience, **kw)
        cls.description = description

    @classmethod
    def name(cls) -> str:
        """As models call it."""
        return cls.verb

    @classmethod
    def arguments_type(cls) -> type[BaseModel]:
        found = cls.model_fields["arguments"].annotation
        assert isinstance(found, type)
        assert issubclass(found, BaseModel)
        return found
