"""Which changes of a golden schema would break a reader or a writer of the release before?"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Schema = dict[str, Any]


def breaking(old: Schema, new: Schema, path: str = "$", *, answer_only: bool = False) -> Iterator[str]:
    """Each change that is not additive, as a sentence with its JSON path."""
    for name, definition in old.get("$defs", {}).items():
        if name in new.get("$defs", {}):
            yield from breaking(definition, new["$defs"][name], f"{path}.$defs.{name}")
    for part in ("request", "answer"):
        if part in old and part in new:
            yield from breaking(old[part], new[part], f"{path}.{part}")
    if "enum" in old and (gone := [v for v in old["enum"] if v not in new.get("enum", [])]):
        yield f"{path}: the values {gone} are gone"
    if old.get("type") != new.get("type"):
        yield f"{path}: the type changed from {old.get('type')} to {new.get('type')}"
    before, after = old.get("properties", {}), new.get("properties", {})
    for name, field in before.items():
        if name not in after:
            yield f"{path}.{name}: the field is gone"
        else:
            yield from breaking(field, after[name], f"{path}.{name}")
    for name in set(new.get("required", [])) - set(old.get("required", [])):
        yield (
            f"{path}.{name}: the field is required now" if name in before else f"{path}.{name}: a new field is required"
        )


def committed(path: Path, revision: str = "HEAD") -> Schema | None:
    """The schema as it was at a revision; None when it did not exist there."""
    shown = subprocess.run(["git", "show", f"{revision}:{path}"], capture_output=True, text=True, check=False)
    return json.loads(shown.stdout) if shown.returncode == 0 else None
