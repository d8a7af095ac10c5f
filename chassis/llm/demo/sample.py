"""Makes a value that fits a JSON Schema: the smallest that looks like content."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

MAX_DEPTH = 6  # optional properties below are left out, so that recursive schemas end
FORMATS = {
    "date-time": "2025-01-01T09:00:00Z",
    "date": "2025-01-01",
    "time": "09:00:00Z",
    "duration": "PT1H",
    "uuid": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "uuid4": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "email": "someone@example.org",
    "uri": "https://example.org/",
    "ipv4": "192.0.2.1",
    "binary": "",
}
CANDIDATES = (
    "a",
    "A",
    "1",
    "a1",
    "demo",
    "Demo-1",
    "demo-1",
    "2025-01-01",
    "0" * 64,
    "https://example.org/",
    "#aabbcc",
    "1.0",
)


def sample(schema: Schema, subject: str) -> Any:
    return _Maker(schema, subject).make(schema, "answer", 0)


class _Maker:
    def __init__(self, root: Schema, subject: str) -> None:
        self._root = root
        self._subject = subject or "demo"

    def make(self, schema: Any, name: str, depth: int) -> Any:
        if not isinstance(schema, Mapping):
            return f"{name}: {self._subject}"
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][0]
        kind = schema.get("type")
        kind = kind[0] if isinstance(kind, list) else kind
        makers = {"object": self._object, "array": self._array, "integer": _integer, "number": _number}
        if kind in makers:
            return makers[kind](schema, name, depth)
        return {"boolean": True, "null": None}[kind] if kind in ("boolean", "null") else self._string(schema, name)

    def _resolved(self, schema: Schema) -> Schema:
        """The schema itself, what it refers to, or the first alternative that is something."""
        while True:
            rest = {k: v for k, v in schema.items() if k not in ("$ref", "anyOf", "oneOf", "allOf")}
            if "$ref" in schema:
                schema = {**self._definition(schema["$ref"]), **rest}
            elif options := schema.get("anyOf") or schema.get("oneOf"):
                something = next((o for o in options if o.get("type") != "null"), options[0])
                schema = {**rest, **something}
            elif schema.get("allOf"):
                schema = {**rest, **{k: v for part in schema["allOf"] for k, v in self._resolved(part).items()}}
            else:
                return schema if "type" in schema or "properties" not in schema else {**schema, "type": "object"}

    def _definition(self, reference: str) -> Schema:
        found: Any = self._root
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        return dict(found)

    def _object(self, schema: Schema, name: str, depth: int) -> dict[str, Any]:
        required = set(schema.get("required", ()))
        properties = schema.get("properties", {})
        return {k: self.make(v, k, depth + 1) for k, v in properties.items() if k in required or depth < MAX_DEPTH}

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        fixed = [self.make(item, name, depth + 1) for item in schema.get("prefixItems", ())]
        most = min(schema.get("maxItems", 2), 1 if schema.get("uniqueItems") else 2) if depth < MAX_DEPTH else 0
        wanted = max(schema.get("minItems", 0), most, len(fixed))
        return fixed + [self.make(schema.get("items", {}), name, depth + 1) for _ in range(wanted - len(fixed))]

    def _string(self, schema: Schema, name: str) -> str:
        text = FORMATS.get(schema.get("format", ""), f"{name.replace('_', ' ')}: {self._subject}")
        least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
        text = text if len(text) >= least else text + "." * (least - len(text))
        text = text if len(text) <= most else text[:most].strip().ljust(least, ".")
        pattern = schema.get("pattern")
        if pattern is None or re.search(pattern, text):
            return text
        fits = (c for c in CANDIDATES if re.search(pattern, c) and least <= len(c) <= most)
        return next(fits, text)


def _number(schema: Schema, name: str, depth: int) -> float:
    """82 for a score, else 1, or where that is out of bounds, well within them."""
    low = float(schema.get("minimum", schema.get("exclusiveMinimum", -math.inf)))
    high = float(schema.get("maximum", schema.get("exclusiveMaximum", math.inf)))
    usual = 82.0 if "score" in name else 1.0
    if low < usual < high:
        return usual
    if math.isinf(low) or math.isinf(high):
        return low + 1 if math.isfinite(low) else high - 1
    return low + (high - low) * 0.8


def _integer(schema: Schema, name: str, depth: int) -> int:
    step = int(schema.get("multipleOf", 1))
    value = math.floor(_number(schema, name, depth)) // step * step
    least = schema.get("minimum", schema.get("exclusiveMinimum", -math.inf))
    return value if value >= least and value != schema.get("exclusiveMinimum") else value + step
