"""Every message there is, in reading order: the source of the schemas, the AsyncAPI document and docs/messages.md."""

from __future__ import annotations

from inspect import isclass
from types import ModuleType
from typing import Any, TypeVar

from contracts import (
    artifacts,
    budgets,
    executor,
    feedback,
    knowledge,
    planner,
    previews,
    retrievals,
    review,
    run_control,
    run_facts,
    sidecar_requests,
    task_control,
    weather,
)
from contracts.message import Command, Event, Live, Message, Request
from contracts.story import owner_requests
from contracts.tool import UseTool

T = TypeVar("T")

OWNER_MODULES: tuple[ModuleType, ...] = (
    *(planner, task_control),
    *(executor, run_facts, run_control, sidecar_requests, review, weather, budgets),
    feedback,
    *(artifacts, previews),
    *(knowledge, retrievals),
)


def _declared(module: ModuleType, base: type[T]) -> tuple[type[T], ...]:
    found = (c for c in vars(module).values() if isclass(c) and issubclass(c, base) and c.__module__ == module.__name__)
    return tuple(c for c in found if "verb" in vars(c))


COMMANDS: tuple[type[Command], ...] = tuple(c for m in OWNER_MODULES for c in _declared(m, Command))
EVENTS: tuple[type[Event], ...] = tuple(c for m in OWNER_MODULES for c in _declared(m, Event))
LIVE: tuple[type[Live], ...] = tuple(c for m in OWNER_MODULES for c in _declared(m, Live))
REQUESTS: tuple[type[Request[Any]], ...] = tuple(c for m in OWNER_MODULES for c in _declared(m, Request))
TOOLS: tuple[type[UseTool], ...] = tuple(c for m in OWNER_MODULES for c in _declared(m, UseTool))
MESSAGES: tuple[type[Message], ...] = (*COMMANDS, *EVENTS, *LIVE)
BY_TYPE: dict[str, type[Message]] = {m.type_name(): m for m in MESSAGES}

#: what every owner answers besides its own business, by owner
OWNER_REQUESTS: dict[str, dict[str, type[Request[Any]]]] = {
    owner: owner_requests(owner) for owner in ("gateway", "planner", "executor", "feedback", "publisher", "rag")
}
