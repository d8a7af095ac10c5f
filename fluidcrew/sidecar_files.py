"""Sidecars as files: where those of a run lie, which there are, what reading one gives or why it gives nothing."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from fluidcrew.exits import Exit, Halt

SUFFIX = ".llm.json"
DEFAULT_ROOT = ".runs"
NODES = "nodes"  # <root>/<run id>/nodes/<node key>/<one per model call>.llm.json
MOST_BYTES = 4 * 1024 * 1024
MOST_LEVELS = 100
NO_WAITING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Unusable(Exception):
    """What lies there is no sidecar. `passed` when it was none of ours to judge."""

    def __init__(self, reason: str, *, passed: bool = False) -> None:
        super().__init__(reason)
        self.passed = passed


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is named as sidecars are, or what was met on the way to them."""

    path: Path
    trouble: Unusable | None = None

    @property
    def run(self) -> str | None:
        """The name of its run's directory, where it lies as exports do."""
        parents = self.path.absolute().parents
        return parents[2].name if len(parents) > 2 and parents[1].name == NODES else None

    def read(self) -> Any:
        """The document. Raises Unusable, and nothing else of files."""
        if self.trouble is not None:
            raise self.trouble
        try:
            return parsed(_bytes_of(self.path))
        except OSError as error:
            raise Unusable(f"cannot be read: {error.strerror}") from error


def root_of(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("RUNS_ROOT") or DEFAULT_ROOT).expanduser()


def found_in(path: Path) -> Iterator[Found]:
    """In the order of their names; a file named by the caller may be called anything. Raises Halt when nothing is there."""
    if not os.path.lexists(path):
        raise Halt(Exit.USAGE, f"there is no {path}: give a directory with sidecars (*{SUFFIX}), or one of them")
    if path.is_dir():
        yield from _below(path)
    else:
        yield Found(path)


def _below(top: Path) -> Iterator[Found]:
    troubles: list[OSError] = []
    for folder, folders, names in os.walk(top, onerror=troubles.append):
        yield from _closed(troubles)
        folders.sort()
        yield from (found for name in folders if (found := _odd_folder(Path(folder, name))))
        yield from (Found(Path(folder, name)) for name in sorted(names) if name.endswith(SUFFIX))
    yield from _closed(troubles)


def _closed(troubles: list[OSError]) -> Iterator[Found]:
    while troubles:
        error = troubles.pop()
        yield Found(Path(os.fsdecode(error.filename)), Unusable(f"cannot be looked into: {error.strerror}"))


def _odd_folder(path: Path) -> Found | None:
    if path.is_symlink():
        return Found(path, Unusable("a symbolic link to a directory: not followed", passed=True))
    return Found(path, Unusable("a directory", passed=True)) if path.name.endswith(SUFFIX) else None


def _bytes_of(path: Path) -> bytes:
    """Opened so that neither a link is followed nor a pipe waited for."""
    kind = path.lstat().st_mode
    if stat.S_ISLNK(kind):
        raise Unusable("a symbolic link: not followed", passed=True)
    if not stat.S_ISREG(kind):
        raise Unusable("no regular file", passed=True)
    with os.fdopen(os.open(path, NO_WAITING), "rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise Unusable(f"has {path.stat().st_size:,} bytes, and a sidecar {MOST_BYTES:,} at most")
    return data


def parsed(data: bytes) -> Any:
    """Raises Unusable for what is no JSON, or more than JSON."""
    try:
        text = data.decode("utf-8-sig")
        if not text.strip():
            raise Unusable("is empty")
        document = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        _look_through(document)
        if "\\ud" in text.lower():
            json.dumps(document, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise Unusable(f"is no JSON: not UTF-8 at byte {error.start}") from error
    except UnicodeEncodeError as error:
        raise Unusable("is no JSON: half of a surrogate pair stands alone") from error
    except json.JSONDecodeError as error:
        raise Unusable(f"is no JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except ValueError as error:  # the interpreter's limit of digits
        raise Unusable("is no JSON that can be read: a number has too many digits") from error
    except RecursionError as error:
        raise Unusable(f"is nested deeper than {MOST_LEVELS} levels") from error
    return document


def _refuse(word: str) -> NoReturn:
    raise Unusable(f"is no JSON: {word[:40]}")


def _finite(text: str) -> float:
    return number if math.isfinite(number := float(text)) else _refuse(text)


def _look_through(document: Any) -> None:
    level = [document]
    for _ in range(MOST_LEVELS):
        level = [inner for item in level for inner in _inside(item)]
        if not level:
            return
    raise Unusable(f"is nested deeper than {MOST_LEVELS} levels")


def _inside(item: Any) -> list[Any]:
    return list(item.values()) if isinstance(item, dict) else item if isinstance(item, list) else []


def written(path: Path, document: Any, root: Path) -> bool:
    """Below `root`, whole or not at all; False when it lay there already just so. Raises Halt."""
    if not path.parent.resolve().is_relative_to(root.resolve()):
        raise Halt(Exit.USAGE, f"{path.parent} leads out of {root} over a symbolic link: remove the link")
    data = (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(data)
        unfinished.replace(path)
    except OSError as error:
        with suppress(OSError):  # what cannot be written to may not be there at all
            unfinished.unlink()
        message = (
            f"cannot write {path} ({error.strerror}): choose another directory (RUNS_ROOT, --to), or correct its rights"
        )
        raise Halt(Exit.USAGE, message) from error
    return True
