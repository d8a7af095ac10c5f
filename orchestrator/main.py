"""`python -m orchestrator.main --use-supervisor --title "…"`: the predecessor's way to say `fluidcrew run … --watch`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from fluidcrew.app import guarded
from fluidcrew.exits import Exit, Halt


def main(arguments: Sequence[str]) -> int:
    return guarded(lambda: _run(_parser().parse_args(arguments)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.main", description="Same as: fluidcrew run TITLE --watch"
    )
    parser.add_argument("--title", required=True, help="what is to be done")
    parser.add_argument("--use-supervisor", action="store_true", help="let the supervisor draft the plan")
    parser.add_argument("--task-file", type=Path, help="JSON with a plan or a task_spec")
    parser.add_argument("--dry-run", action="store_true", help="walk the plan without calling a model")
    return parser


def _run(options: argparse.Namespace) -> int:
    from fluidcrew import running
    from fluidcrew.task_file import read_task_file, request_of

    if not options.use_supervisor and options.task_file is None:
        raise Halt(Exit.USAGE, "where does the plan come from? Add --use-supervisor, or --task-file plan.json")
    body = request_of(
        read_task_file(options.task_file) if options.task_file else None,
        title=options.title,
        description=None,
        use_supervisor=options.use_supervisor,
        gate=None,
        options={"dry_run": options.dry_run or None},
    )
    return asyncio.run(running.start(body, watching=True))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
