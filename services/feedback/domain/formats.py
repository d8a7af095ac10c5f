"""Which format does a node declare for its result, and does the result keep to it?

Declared in the node's params: `output_format` (json, jsonl or csv; others are read by nobody but people) and
`output_schema`, a JSON Schema, which implies json.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

FENCE = re.compile(r"\A\s*```[\w-]*[ \t]*\n(.*)\n[ \t]*```\s*\Z", re.DOTALL)
MOST_SAID = 300  # characters of what is wrong
#: by these a schema of a few lines can take minutes, or years: references that double at each step, searches in strange
#: texts, numbers beyond 64 bits that are held each against each other, fractions of large ones
COSTLY = (
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "pattern",
    "patternProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "uniqueItems",
    "multipleOf",
)
MOST_STEPS = 10_000_000  # each character of the schema at each of the text: a tenth of a second


class Uncheckable(Exception):
    """What is declared cannot be held against anything; the message says why."""


@dataclass(frozen=True, slots=True)
class Format:
    """`fits` is the validator of the declared schema, if there is one."""

    name: str
    fits: Any = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """`name` is None when no format is declared that code could check, `problem` when the result keeps to it;
    `uncheckable` says why nothing can be held against what is declared."""

    name: str | None = None
    problem: str | None = None
    has_schema: bool = False
    uncheckable: str | None = None


def judgement(text: str, params: Mapping[str, Any]) -> Judgement:
    try:
        format = declared(params)
    except Uncheckable as reason:
        return Judgement(uncheckable=str(reason))
    return Judgement() if format is None else Judgement(format.name, problem(text, format), format.fits is not None)


def is_costly(text: str, params: Mapping[str, Any]) -> bool:
    """Whether a strange schema may take longer than others can wait."""
    schema = params.get("output_schema")
    if not isinstance(schema, Mapping):
        return False
    written = json.dumps(schema)
    return len(written) * len(text) > MOST_STEPS or any(f'"{word}"' in written for word in COSTLY)


def declared(params: Mapping[str, Any]) -> Format | None:
    """None when no format is declared that code could check. Raises Uncheckable."""
    name, schema = params.get("output_format"), params.get("output_schema")
    name = name.strip().lower() if isinstance(name, str) else None
    if isinstance(schema, Mapping) and name in (None, "json", "jsonl", "ndjson"):
        return Format(name or "json", _validator(schema))
    if schema is not None:
        raise Uncheckable("output_schema is no JSON Schema, or output_format is not json or jsonl")
    return Format(name) if name is not None and name in READERS else None


def problem(text: str, format: Format) -> str | None:
    """What keeps the text from being what it should be; None when nothing does. One fence around it is no fault."""
    fenced = FENCE.match(text)
    try:
        found = READERS[format.name](fenced[1] if fenced else text, format.fits)
    except (ValueError, RecursionError, csv.Error) as error:
        found = f"is not valid {format.name}: {error}"
    return found if found is None or len(found) <= MOST_SAID else f"{found[: MOST_SAID - 1]}…"


def _json(text: str, fits: Any) -> str | None:
    return _unfit(_decoded(text), fits)


def _json_lines(text: str, fits: Any) -> str | None:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and (found := _unfit(_decoded(line), fits)):
            return f"line {number}: {found}"
    return None


def _csv(text: str, _: Any) -> str | None:
    rows = [row for row in csv.reader(text.strip().splitlines(), strict=True) if row]
    if len(rows) < 2:
        return "has no row below its header"
    odd = next((number for number, row in enumerate(rows, start=1) if len(row) != len(rows[0])), None)
    return odd and f"row {odd} has {len(rows[odd - 1])} fields, the header has {len(rows[0])}"  # type: ignore[return-value]


READERS: Mapping[str, Callable[[str, Any], str | None]] = {
    "json": _json,
    "jsonl": _json_lines,
    "ndjson": _json_lines,
    "csv": _csv,
}


def _decoded(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _unfit(value: Any, fits: Any) -> str | None:
    if fits is None:
        return None
    try:
        fits.validate(value)
    except jsonschema_rs.ValidationError as error:
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
        said = f"does not fit its schema at ${place}: {error.message}"
        return said.replace("\x00", "\ufffd")  # no text column takes NUL
    return None


def _validator(schema: Mapping[str, Any]) -> Any:
    """Follows no reference to elsewhere: a plan must not make us call anyone."""
    try:
        return jsonschema_rs.validator_for(dict(schema), retriever=_nowhere)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise Uncheckable(f"output_schema is no usable JSON Schema: {str(error).splitlines()[0][:200]}") from error


def _nowhere(reference: str) -> Any:
    raise ValueError("references to other documents are not followed")
