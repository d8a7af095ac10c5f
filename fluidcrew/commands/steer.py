"""`pause`, `resume`, `cancel`, `retry`, `reset`, `skip`, `status`, `why` and `providers`: steering what runs."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

What = Annotated[
    str, typer.Argument(metavar="[RUN|TASK]", show_default=False, help="Id of a run or task, or how it begins.")
]
Last = Annotated[bool, typer.Option("--last", "-l", help="The latest run.")]
Json = Annotated[bool, typer.Option("--json", help="The API's own JSON.")]
SKIP_EXAMPLES = """\b
Examples:
  fluidcrew skip 3f2a91c0 draft          a node of a run, by its key
  fluidcrew skip --last draft
  fluidcrew skip 3f2a91c0 --failed       all that failed, and the run goes on"""


def pause(
    what: What = "",
    last: Last = False,
    interrupt: Annotated[
        bool, typer.Option("--interrupt", help="Cut off calls that are under way; they run again after a resume.")
    ] = False,
    json: Json = False,
) -> int:
    """Let running nodes finish and start no more. A paused task starts no new run either, until resume or reset."""
    from fluidcrew import steering

    return asyncio.run(steering.order("pause", what, last=last, interrupt=interrupt, as_json=json))


def resume(what: What = "", last: Last = False, json: Json = False) -> int:
    """Let a paused run go on; of a task, clear its flags too."""
    from fluidcrew import steering

    return asyncio.run(steering.order("resume", what, last=last, as_json=json))


def cancel(what: What = "", last: Last = False, json: Json = False) -> int:
    """End a run for good, cutting off calls that are under way. A canceled task starts no new run until reset."""
    from fluidcrew import steering

    return asyncio.run(steering.order("cancel", what, last=last, as_json=json))


def retry(
    what: What = "",
    last: Last = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Reuse nothing of the earlier run.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show the run live until it has ended.")] = False,
    json: Json = False,
) -> int:
    """Run a task again. Finished nodes whose inputs did not change keep their results."""
    from fluidcrew import steering

    return asyncio.run(steering.retry(what, last=last, fresh=fresh, watching=watch, as_json=json))


def reset(what: What = "", last: Last = False, json: Json = False) -> int:
    """Clear the pause and cancel flags of a task, so that it may start; touches no run."""
    from fluidcrew import steering

    return asyncio.run(steering.reset(what, last=last, as_json=json))


def skip(
    what: Annotated[
        str, typer.Argument(metavar="NODE | RUN", show_default=False, help="Id of a node; or a run, before a key.")
    ] = "",
    key: Annotated[str, typer.Argument(metavar="[KEY]", show_default=False, help="The node's key in its run.")] = "",
    last: Last = False,
    failed: Annotated[bool, typer.Option("--failed", help="Every node of the run that failed.")] = False,
    json: Json = False,
) -> int:
    """Go on without a node: what waits for it starts. A run that had failed goes on."""
    from fluidcrew import steering

    return asyncio.run(steering.skip(what, key, last=last, failed=failed, as_json=json))


def status(what: What = "", last: Last = False, json: Json = False) -> int:
    """Show how a run or task stands: what was asked of it, by whom, what took effect, its nodes."""
    from fluidcrew import standing

    return asyncio.run(standing.status(what, last=last, as_json=json))


def why(
    what: What = "",
    last: Last = False,
    everything: Annotated[bool, typer.Option("--all", help="Also each node that only waits for others.")] = False,
    json: Json = False,
) -> int:
    """Show what of a run does not move: the reason, until when, and what will release it."""
    from fluidcrew import standing

    return asyncio.run(standing.why(what, last=last, everything=everything, as_json=json))


def providers(json: Json = False) -> int:
    """List the providers of language models, and whether their models can be had right now."""
    from fluidcrew import standing

    return asyncio.run(standing.providers(as_json=json))
