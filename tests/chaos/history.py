"""The history of a scenario: what clients, streams, faults and the model server saw, one JSON object per line."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Record = dict[str, Any]

#: what a run that is over is told with
ENDS = {"RUN_COMPLETED": "completed", "RUN_FAILED": "failed", "RUN_CANCELED": "canceled"}


class Recorder:
    """Writes every record at once: a program that is killed leaves what it saw."""

    def __init__(self, path: Path, **scenario: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self.note("scenario", **scenario)

    def note(self, kind: str, **fields: Any) -> None:
        self._file.write(json.dumps({"kind": kind, "at": time.time(), **fields}, default=str) + "\n")

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True, slots=True)
class Fact:
    """An event of the feed, as GET /events told it."""

    id: str
    position: int
    level: str
    run_id: str | None
    task_id: str | None
    at: float
    body: Mapping[str, Any]

    @classmethod
    def of(cls, record: Record) -> Fact:
        return cls(
            record["id"],
            record["position"],
            record["level"],
            record["run_id"],
            record["task_id"],
            record["told_at"],
            record["body"],
        )


class History:
    """Records by kind, and the views of them that the rules share."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._by_kind: defaultdict[str, list[Record]] = defaultdict(list)
        for record in records:
            self._by_kind[record["kind"]].append(record)

    @classmethod
    def read(cls, path: Path) -> History:
        with path.open(encoding="utf-8") as lines:
            return cls(json.loads(line) for line in lines)

    def all(self, kind: str) -> Sequence[Record]:
        return self._by_kind.get(kind, ())

    @property
    def scenario(self) -> Record:
        found = self.all("scenario")
        return found[0] if found else {}

    @cached_property
    def facts(self) -> list[Fact]:
        return [Fact.of(record) for record in self.all("fact")]

    @cached_property
    def by_run(self) -> Mapping[str, list[Fact]]:
        found: defaultdict[str, list[Fact]] = defaultdict(list)
        for fact in self.facts:
            if fact.run_id is not None:
                found[fact.run_id].append(fact)
        return found

    @cached_property
    def plans(self) -> Mapping[str, Record]:
        """By name: the dependencies of each node."""
        return {record["name"]: record for record in self.all("plan")}

    def agents(self, plan: str) -> Set[str]:
        """Its nodes for which a model is called."""
        record = self.plans.get(plan, {})
        return record.get("nodes", {}).keys() - set(record.get("walked", ()))

    @cached_property
    def launched(self) -> Mapping[str, str]:
        """Run id to the name of its plan, of every run that a client was promised."""
        return {call["answer"]["run_id"]: call["plan"] for call in self.answered(202) if call.get("plan")}

    @cached_property
    def runs(self) -> Mapping[str, Record]:
        """By id, as the API showed them in the end."""
        return {record["id"]: record for record in self.all("run")}

    def answered(self, *statuses: int) -> Iterator[Record]:
        return (call for call in self.all("call") if call["status"] in statuses)

    def model_calls(self) -> Mapping[tuple[str, str], list[Record]]:
        """By plan and node, in their order."""
        found: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
        for call in self.all("model"):
            found[call["plan"], call["key"]].append(call)
        return found
