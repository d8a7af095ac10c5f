"""Reads sidecars that are older than version 1.0, or were never valid, as if they were: the original stays as it is."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

from contracts.older_values import OPTIONAL, moment_of, number_of, shown, text_of, turn_of, uuid4_of
from contracts.sidecar import MAX_PROMPT, PROVIDERS, UUID4, VERSION, check, shortened

# what fields were called before, the nearest name first
NAMES = {
    "provider": ("llm_provider", "backend", "llm_backend"),
    "model": ("llm_model", "model_name"),
    "latency_ms": ("duration_ms", "elapsed_ms"),
    "usage": ("tokens", "token_usage"),
    "cost": ("cost_usd", "price"),
    "prompts": ("prompt", "messages"),
    "run_id": ("run",),
    "node_id": ("node",),
    "retry": ("retry_index",),
    "tooling": ("tools",),
    "warnings": ("warning",),
    "errors": ("error",),
}
USAGE_NAMES = {
    "prompt_tokens": ("input_tokens", "prompt"),
    "completion_tokens": ("output_tokens", "completion"),
    "total_tokens": ("total",),
}
COST_NAMES = {"estimated": ("estimated_usd", "usd", "amount", "total")}
PROMPT_NAMES = {"system": ("system_prompt",), "user": ("user_prompt", "prompt")}
TIME_NAMES = {"started_at": ("start", "started"), "ended_at": ("end", "ended", "finished_at")}
EPOCH = "1970-01-01T00:00:00+00:00"

Json = dict[str, Any]


class NoSidecar(ValueError):
    """What was read is no JSON object."""


def normalised(document: Any, *, run_id: str = "", node_id: str = "") -> Json:
    """A copy that is valid in the strict form; a document that is, comes back unchanged. What had to be made up or changed
    is told in its `warnings`. The ids are those to take for ids that are missing or no UUIDs of version 4.

    Raises NoSidecar."""
    if not isinstance(document, Mapping):
        raise NoSidecar("a sidecar is a JSON object")
    read = copy.deepcopy(dict(document))
    if not check(read, strict=True).errors:
        return read
    reading = _Reading(read)
    reading.renamed(read, NAMES)
    reading.all_but_ids(read)
    for name, known in (("run_id", run_id), ("node_id", node_id)):
        read[name] = reading.id(read, name, known)
    reading.told_in(read)
    return read


class _Reading:
    """One document being read. Takes its parts as they come, gives them as they should be, and notes what it did."""

    def __init__(self, document: Json) -> None:
        self._original = json.dumps(document, sort_keys=True, default=str)
        self._notes: list[str] = []

    def note(self, text: str) -> None:
        self._notes.append(f"normalised: {text}")

    def told_in(self, read: Json) -> None:
        if self._notes:
            read["warnings"] = [*(read.get("warnings") or []), *self._notes]

    def renamed(self, part: Json, names: Mapping[str, tuple[str, ...]]) -> None:
        for name, earlier in names.items():
            found = next((old for old in earlier if old in part), None)
            if part.get(name) is None and found is not None:
                part[name] = part.pop(found)
                self.note(f"{name} was called {found}")

    def all_but_ids(self, read: Json) -> None:
        if read.get("version") != VERSION:
            self.note(f"version was {shown(read.get('version'))}")
        read |= {
            "version": VERSION,
            "provider": self.provider(read.get("provider")),
            "latency_ms": self.count(read.get("latency_ms"), "latency_ms"),
            "usage": self.usage(read.get("usage")),
            "cost": self.cost(read.get("cost")),
            "prompts": self.prompts(read.get("prompts"), read),
            "timestamps": self.timestamps(read.get("timestamps"), read),
        }
        self.models(read)
        self.optional(read)

    def provider(self, value: Any) -> str:
        name = value.strip().lower() if isinstance(value, str) else ""
        if name in PROVIDERS:
            return name
        self.note(f"provider {shown(value)} became other")
        return "other"

    def models(self, read: Json) -> None:
        asked, used = text_of(read.get("model")), text_of(read.get("model_used"))
        if asked and used and asked != used:
            self.note(f"model was {shown(asked)}; model_used wins")
        if not asked and not used:
            self.note("no model was named")
        read["model"] = read["model_used"] = used or asked or "unknown"

    def count(self, value: Any, name: str) -> int:
        number = number_of(value)
        whole = max(0, int(number)) if number is not None else 0
        if value != whole or isinstance(value, bool):
            self.note(f"{name} was {shown(value)}")
        return whole

    def usage(self, value: Any) -> Json:
        usage = dict(value) if isinstance(value, Mapping) else {} if value is None else {"total_tokens": value}
        self.renamed(usage, USAGE_NAMES)
        for name in ("prompt_tokens", "completion_tokens"):
            usage[name] = self.count(usage.get(name), f"usage.{name}")
        if usage.get("total_tokens") is not None:
            usage["total_tokens"] = self.count(usage["total_tokens"], "usage.total_tokens")
        return usage

    def cost(self, value: Any) -> Json:
        """An unknown price is not 0: it is said to be unknown."""
        cost = dict(value) if isinstance(value, Mapping) else {"estimated": value}
        self.renamed(cost, COST_NAMES)
        amount = number_of(cost.get("estimated"))
        if not isinstance(cost.get("known"), bool | None):
            del cost["known"]
        if amount is None or amount < 0:
            self.note(f"cost is unknown: it was {shown(cost.get('estimated'))}")
            return cost | {"estimated": 0.0, "known": False}
        if amount != cost["estimated"]:
            self.note(f"cost.estimated was {shown(cost['estimated'])}")
        return cost | {"estimated": float(amount)}

    def prompts(self, value: Any, read: Json) -> Json:
        given = dict(value) if isinstance(value, Mapping) else {"user": value}
        for name, earlier in PROMPT_NAMES.items():
            if given.get(name) is None:
                given[name] = next((read.pop(old) for old in earlier if old in read), None)
        self.renamed(given, PROMPT_NAMES)
        user = given.get("user")
        return given | {
            "system": self.prompt(given.get("system"), "system"),
            "user": [turn_of(item) for item in user] if isinstance(user, list) else self.prompt(user, "user"),
        }

    def prompt(self, value: Any, name: str) -> str:
        whole = text_of(value)
        if len(whole) > MAX_PROMPT:
            self.note(f"prompts.{name} had {len(whole)} characters")
        return shortened(whole)

    def timestamps(self, value: Any, read: Json) -> Json:
        given = dict(value) if isinstance(value, Mapping) else {}
        self.renamed(given, TIME_NAMES)
        for name, earlier in TIME_NAMES.items():
            if given.get(name) is None:
                given[name] = next((read.pop(old) for old in (name, *earlier) if old in read), None)
        times = {name: self.time(given[name], name) for name in TIME_NAMES}
        known = times["started_at"] or times["ended_at"] or EPOCH
        return given | {name: found or known for name, found in times.items()}

    def time(self, value: Any, name: str) -> str | None:
        found = moment_of(value)
        if found is None or found != value:
            self.note(f"timestamps.{name} was {shown(value)}")
        return found

    def id(self, read: Json, name: str, known: str) -> str:
        """What is no UUID of version 4 becomes one, always the same for the same."""
        given = read.get(name)
        if isinstance(given, str) and re.fullmatch(UUID4, given):
            return given
        self.note(f"{name} was {shown(given)}")
        if re.fullmatch(UUID4, known):
            return known
        told = text_of(given) if given else self._original
        return uuid4_of(f"{name} {told}")

    def optional(self, read: Json) -> None:
        """What may be left out, but is of one kind when it is there."""
        for name, shape in OPTIONAL.items():
            if read.get(name) is not None:
                given = read[name]
                read[name] = shape(given)
                if read[name] != given:
                    self.note(f"{name} was {shown(given)}")
        if (raw := read.pop("raw", None)) is not None:
            read["metadata"] = {"raw": raw} | (read.get("metadata") or {})
            self.note("raw moved to metadata.raw")
