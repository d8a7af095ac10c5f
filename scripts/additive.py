"""Which changes of a golden schema would break a reader or a writer of the release before?"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

#: every schema as the last release had it; `scripts.generate --release` writes it anew
RELEASED = Path("contracts/released.json")
PARTS = ("request", "answer")
SAME = ("type", "format", "pattern", "const")
HIGHEST = ("maxLength", "maxItems", "maximum", "exclusiveMaximum")
LOWEST = ("minLength", "minItems", "minimum", "exclusiveMinimum")
PROSE = frozenset({"title", "description", "default"})


def breaking(old: Schema, new: Schema) -> Iterator[str]:
    """Each change that is not additive, as a sentence with its JSON path."""
    if PARTS[0] not in old:
        yield from Comparison(old, new).of(old, new, "$")
        return
    for part in PARTS:
        yield from Comparison(old[part], new[part], asked=part == "request").of(old[part], new[part], f"$.{part}")


def broken_since(released: Mapping[str, Schema], now: Mapping[str, Schema]) -> Iterator[str]:
    """Over all schemas, by name."""
    for name, old in released.items():
        if name not in now:
            yield f"{name}: the message is gone"
        else:
            yield from (f"{name} {line}" for line in breaking(old, now[name]))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of two documents. What is asked may allow more than before; what is told may not: it has readers."""

    old: Schema
    new: Schema
    asked: bool = False
    _seen: set[tuple[int, int]] = field(default_factory=set)

    def of(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        befores, afters = _alternatives(self.old, old), _alternatives(self.new, new)
        if len(befores) == len(afters) == 1:
            yield from self._value(befores[0], afters[0], path)
        else:
            yield from self._alternatives(befores, afters, path)

    def _alternatives(self, befores: list[Schema], afters: list[Schema], path: str) -> Iterator[str]:
        """Those of one type belong together, in their order."""
        left = defaultdict[Any, list[Schema]](list)
        for after in afters:
            left[after.get("type")].append(after)
        for before in befores:
            kind = before.get("type")
            if left[kind]:
                yield from self._value(before, left[kind].pop(0), path)
            else:
                yield f"{path}: it can be no {kind} any more"
        if not self.asked:
            yield from (
                f"{path}: it may be {kind} now, which readers do not expect" for kind, more in left.items() if more
            )

    def _value(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        pair = id(old), id(new)
        if pair in self._seen:  # what is behind a name is looked at once, also when it refers to itself
            return
        self._seen.add(pair)
        yield from _limits(old, new, path)
        yield from self._fields(old, new, path)
        for name, below in (("items", "[]"), ("additionalProperties", ".*"), ("propertyNames", ".*")):
            before, after = old.get(name), new.get(name)
            if isinstance(before, dict) and isinstance(after, dict):
                yield from self.of(before, after, path + below)
            elif before != after and after not in (None, True):
                yield f"{path}{below}: {name} is limited now"

    def _fields(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name, schema in before.items():
            if name not in after:
                yield f"{path}.{name}: the field is gone"
            else:
                yield from self.of(schema, after[name], f"{path}.{name}")
        for name in sorted(set(new.get("required", [])) - set(old.get("required", []))):
            yield f"{path}.{name}: " + ("the field is required now" if name in before else "a new field is required")


def _limits(old: Schema, new: Schema, path: str) -> Iterator[str]:
    if gone := [v for v in old.get("enum", []) if "enum" in new and v not in new["enum"]]:
        yield f"{path}: the values {gone} are gone"
    if "enum" in new and "enum" not in old:
        yield f"{path}: only the values {new['enum']} are allowed now"
    for name in SAME:
        if old.get(name) != new.get(name):
            yield f"{path}: the {name} changed from {old.get(name)} to {new.get(name)}"
    for name in (*HIGHEST, *LOWEST):
        before, after = old.get(name), new.get(name)
        if after is not None and (before is None or (after < before if name in HIGHEST else after > before)):
            yield f"{path}: {name} is {after} now, and was {'not limited' if before is None else before}"


def _alternatives(document: Schema, schema: Schema) -> list[Schema]:
    """What a value may be, with references followed: only what is behind a name is on the wire."""
    if ref := schema.get("$ref"):
        return _alternatives(document, document["$defs"][str(ref).rpartition("/")[2]])
    options = schema.get("anyOf") or schema.get("oneOf")
    return [found for option in options for found in _alternatives(document, option)] if options else [schema]


def bare(schema: Any, *, named: bool = False) -> Any:
    """Without the prose. `named`: the keys are names of fields or definitions, which may be called `title`."""
    if isinstance(schema, list):
        return [bare(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    names = ("properties", "$defs")
    return {k: bare(v, named=k in names and not named) for k, v in schema.items() if named or k not in PROSE}


def as_released(schemas: Mapping[str, Schema]) -> str:
    """One line per message."""
    lines = (f"{json.dumps(n)}: {json.dumps(bare(s), sort_keys=True)}" for n, s in sorted(schemas.items()))
    return "{\n" + ",\n".join(lines) + "\n}\n"
