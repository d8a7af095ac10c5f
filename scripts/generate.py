"""Regenerates what is generated: schemas, AsyncAPI, OpenAPI, diagrams, the message catalogue, `.env.example`'s check.

python -m scripts.generate            write the files
python -m scripts.generate --check    write nothing, exit 1 and name the files that differ
python -m scripts.generate --release  also make today's schemas those that later changes have to be additive to
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from contracts import catalog, sidecar
from contracts.message import Message, Request
from scripts import additive, asyncapi, catalogue, diagrams

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = Path("contracts/schemas")


def as_json(document: Any) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def schemas() -> Iterator[tuple[Path, str]]:
    """One golden JSON Schema per message, and per request with its answer."""
    for message in catalog.MESSAGES:
        yield SCHEMAS / f"{message.type_name()}.json", as_json(_schema(message))
    for request in catalog.REQUESTS:
        both = {"request": _schema(request), "answer": _schema(request.answer)}
        yield SCHEMAS / f"rpc.{request.owner}.{request.entity}.{request.verb}.json", as_json(both)
    yield SCHEMAS / "llm_sidecar.schema.json", as_json(sidecar.json_schema())


def _schema(model: type[Message] | type[Request[Any]] | Any) -> dict[str, Any]:
    schema: dict[str, Any] = model.model_json_schema()
    return schema


def by_name() -> dict[str, dict[str, Any]]:
    return {path.name: json.loads(text) for path, text in schemas()}


def openapi() -> str:
    os.environ.setdefault("NATS_URL", "nats://127.0.0.1:4222")
    os.environ.setdefault("DATABASE_URL", "postgresql://gateway@127.0.0.1/fluidcrew")
    from services.gateway.app import create_app
    from services.gateway.settings import GatewaySettings

    return as_json(create_app(GatewaySettings.load()).openapi())


def documents() -> Iterator[tuple[Path, str]]:
    yield from schemas()
    yield Path("docs/asyncapi.json"), as_json(asyncapi.document())
    yield Path("docs/openapi.json"), openapi()
    yield Path("docs/messages.md"), catalogue.page()
    yield Path("docs/state-machine.md"), diagrams.page()


def stale(expected: dict[Path, str]) -> list[str]:
    """What differs, is missing, or lies in the schemas' folder without a message."""
    wrong = [f"{p}: missing" for p in expected if not (ROOT / p).exists()]
    wrong += [f"{p}: differs" for p, t in expected.items() if (ROOT / p).exists() and (ROOT / p).read_text() != t]
    orphans = {p.relative_to(ROOT) for p in (ROOT / SCHEMAS).glob("*.json")} - set(expected)
    return wrong + [f"{p}: no message has this name any more" for p in sorted(orphans)]


def write(expected: dict[Path, str]) -> None:
    for path, text in expected.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
    for path in (ROOT / SCHEMAS).glob("*.json"):
        if path.relative_to(ROOT) not in expected:
            path.unlink()


def main() -> int:
    expected = dict(documents())
    if "--check" not in sys.argv[1:]:
        write(expected)
        if "--release" in sys.argv[1:]:
            (ROOT / additive.RELEASED).write_text(additive.as_released(by_name()), encoding="utf-8")
        print(f"wrote {len(expected)} files")
        return 0
    if wrong := stale(expected):
        print(
            "generated files are out of date; run `.venv/bin/python -m scripts.generate` and commit:",
            *wrong,
            sep="\n  ",
        )
        return 1
    print(f"{len(expected)} generated files are up to date")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
