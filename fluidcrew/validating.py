"""Checks sidecar files against their format, and reads older ones as the present one: what was found, told per file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from chassis.printable import printable
from contracts.older_sidecar import NoSidecar, normalised
from contracts.older_values import moment_of
from contracts.sidecar import UUID4, check
from fluidcrew.exits import Exit, Halt
from fluidcrew.render.places import command
from fluidcrew.render.words import one_line
from fluidcrew.sidecar_files import SUFFIX, Found, Unusable, found_in, root_of, written
from fluidcrew.since import parse_since

MOST_ERRORS = 20  # told of one file
MOST_WARNINGS = 50
NO_UUID = "its run is no UUID of version 4: --non-uuid checks it too"
NO_VERSION = "no version, so older than 1.0: --all checks it too"
EARLIER = "began before --since"
NORMALISED = "normalised: "


@dataclass(frozen=True, slots=True)
class Wanted:
    """How strict to be, and what else to look at."""

    strict: bool = False
    all: bool = False
    non_uuid: bool = False
    since: datetime | None = None


@dataclass(slots=True)
class Tally:
    """Every file is in one of three; what many share is told once, with how many and the first of them."""

    ok: int = 0
    wrong: list[tuple[Path, list[str]]] = field(default_factory=list)
    passed: dict[str, list[Path]] = field(default_factory=dict)
    warned: dict[str, list[Path]] = field(default_factory=dict)

    def judge(self, found: Found, errors: list[str], warnings: Iterable[str] = ()) -> None:
        if errors:
            self.wrong.append((found.path, errors))
        else:
            self.ok += 1
        for warning in warnings:
            self.warned.setdefault(warning, []).append(found.path)

    def unusable(self, found: Found, why: Unusable) -> None:
        if why.passed:
            self.passed.setdefault(str(why), []).append(found.path)
        else:
            self.judge(found, [f"$: {why}"])

    def told(self) -> list[str]:
        skipped = sum(map(len, self.passed.values()))
        lines = [f"OK {self.ok} KO {len(self.wrong)} SKIP {skipped}"]
        for path, errors in self.wrong:
            lines += [f"KO {shown(path)}: {one_line(error, 300)}" for error in errors[:MOST_ERRORS]]
            if (more := len(errors) - MOST_ERRORS) > 0:
                lines.append(f"KO {shown(path)}: and {more:,} more")
        lines += [f"SKIP {len(paths)}: {reason} ({_first(paths)})" for reason, paths in self.passed.items()]
        warnings = [f"warning: {one_line(text, 300)} ({_first(paths)})" for text, paths in self.warned.items()]
        more = len(warnings) - MOST_WARNINGS
        return [*lines, *warnings[:MOST_WARNINGS], *([f"and {more:,} other warnings"] if more > 0 else [])]


def validate(path: Path | None, *, since: str, strict: bool, all: bool, non_uuid: bool) -> int:
    top = path or root_of(os.environ)
    if path is None and not top.exists():
        return _ended(Tally(), top)
    wanted = Wanted(strict, all, non_uuid, since_of(since, top) if since else None)
    tally = Tally()
    for found in found_in(top):
        try:
            verdict = check(_of_interest(found, wanted), strict=strict)
            tally.judge(found, verdict.errors, verdict.warnings)
        except Unusable as why:
            tally.unusable(found, why)
    return _ended(tally, top)


def normalise(path: Path, to: Path) -> int:
    """Each sidecar as one of today's, in another place; those there are stay as they are."""
    place, source = to.resolve(), path.resolve()
    if place.is_relative_to(source) or (path.is_file() and place == source.parent):
        raise Halt(Exit.USAGE, f"--to {to} is where {path} lies: give a directory elsewhere; originals are not touched")
    tally = Tally()
    for found in found_in(path):
        try:
            read = normalised(found.read(), run_id=found.run or "")
        except NoSidecar as error:
            tally.unusable(found, Unusable(str(error)))
        except Unusable as why:
            tally.unusable(found, why)
        else:
            written(to / (found.path.relative_to(path) if path.is_dir() else found.path.name), read, to)
            notes = [text for text in read.get("warnings") or [] if text.startswith(NORMALISED)]
            tally.judge(found, [], notes)
    return _ended(tally, path)


def _ended(tally: Tally, top: Path) -> int:
    for line in tally.told():
        print(printable(line))
    if not (tally.ok or tally.wrong or tally.passed):
        print(f"no sidecars (*{SUFFIX}) in {top}: `{command()} export --last` writes those of the latest run")
    return Exit.FAILED if tally.wrong else Exit.OK


def _of_interest(found: Found, wanted: Wanted) -> Any:
    """The document. Raises Unusable, also when it is not wanted."""
    if not wanted.non_uuid and found.run is not None and not re.fullmatch(UUID4, found.run):
        raise Unusable(NO_UUID, passed=True)
    try:
        document = found.read()
    except Unusable as why:
        if not why.passed and wanted.since and _changed_at(found.path) < wanted.since.timestamp():
            raise Unusable(EARLIER, passed=True) from why
        raise
    if wanted.since and (began := _began(document)) and began < wanted.since:
        raise Unusable(EARLIER, passed=True)
    if isinstance(document, dict) and "version" not in document and not wanted.all:
        raise Unusable(NO_VERSION, passed=True)
    return document


def since_of(text: str, top: Path) -> datetime:
    """When a run that lies there began, given its id or how it begins; else a moment, or a duration. Raises Halt."""
    runs = [folder for folder in sorted(top.iterdir()) if _is_meant(folder, text)] if top.is_dir() else []
    if len(runs) > 1:
        raise Halt(Exit.USAGE, f"--since {text}: {len(runs)} runs in {top} begin with it; give more of the id")
    if runs:
        return _began_of_run(runs[0], text)
    if re.fullmatch(UUID4, text):
        raise Halt(Exit.USAGE, f"--since {text}: there is no such run in {top}")
    hint = "give a run that lies there, a time like 2025-03-01T12:00:00Z, or a duration like 1h30m"
    try:
        at = parse_since(text).at
    except Halt:
        at = None
    if at is None:
        raise Halt(Exit.USAGE, f"--since {text}: {hint}")
    return at


def _is_meant(folder: Path, text: str) -> bool:
    """Four characters of an id, at least: fewer are a duration (`3d`)."""
    return folder.is_dir() and (folder.name == text or (len(text) > 3 and folder.name.startswith(text.lower())))


def _began_of_run(folder: Path, text: str) -> datetime:
    found = []
    for sidecar in found_in(folder):
        try:
            found.append(_began(sidecar.read()))
        except Unusable:
            continue  # it is judged later
    times = [at for at in found if at is not None]
    if not times:
        raise Halt(Exit.USAGE, f"--since {text}: no sidecar of that run says when it began; give a time")
    return min(times)


def _began(document: Any) -> datetime | None:
    times = document.get("timestamps") if isinstance(document, dict) else None
    text = moment_of(times.get("started_at")) if isinstance(times, dict) else None
    return datetime.fromisoformat(text.upper()) if text else None


def _changed_at(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return float("inf")


def shown(path: Path) -> str:
    """On one line, whatever somebody called the file."""
    text = str(path)
    return text if text.isprintable() else ascii(text)


def _first(paths: list[Path]) -> str:
    return shown(paths[0]) if len(paths) == 1 else f"{len(paths):,} files, first {shown(paths[0])}"
