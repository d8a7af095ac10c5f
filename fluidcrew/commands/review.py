"""`review`: what waits for a person's verdict, and the answers to it; `attempts` compares what came of them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from fluidcrew.commands.company import of_a_company
from fluidcrew.exits import Exit

group = typer.Typer(
    help="Results that wait for your verdict: an inbox on a terminal, or ls, accept, reject, rerun, skip."
)
EXAMPLES = """\b
Examples:
  fluidcrew review                                    the inbox: look, decide, next
  fluidcrew review ls --json                          for scripts
  fluidcrew review accept 4b1f                        a node by how its id begins, or by its key
  fluidcrew review rerun 3f2a91c0 draft --instructions "Answer in JSON"   a node of a run"""
Node = Annotated[
    str,
    typer.Argument(
        metavar="NODE | RUN", show_default=False, help="A node that waits: its id, how it begins, its key; or a run."
    ),
]
Key = Annotated[str, typer.Argument(metavar="[KEY]", show_default=False, help="The node's key in its run.")]
Run = Annotated[str, typer.Option("--run", metavar="ID", help="Only this run's.")]
Last = Annotated[bool, typer.Option("--last", "-l", help="The latest run.")]
Score = Annotated[int, typer.Option(min=0, max=100, help="What it is worth.")]
Comment = Annotated[str | None, typer.Option("--comment", "-c", help="Why; the author of another attempt is told.")]
Seen = Annotated[
    str | None, typer.Option("--seen", metavar="ID", help="The feedback you decided upon; refused when it is another.")
]
Json = Annotated[bool, typer.Option("--json", help="The API's own JSON.")]


@group.callback(invoke_without_command=True, epilog=EXAMPLES)
@of_a_company
def review(context: typer.Context, run: Run = "", last: Last = False) -> int:
    """Without a command: an inbox on a terminal; elsewhere the list."""
    if context.invoked_subcommand is not None:
        return Exit.OK
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        from fluidcrew import reviewing

        return asyncio.run(reviewing.list_waiting(run, last=last, as_json=False))
    from fluidcrew.inbox import Inbox
    from fluidcrew.render.screen import console

    return Inbox(console(), input, run, last).open()


@group.command("ls")
@of_a_company
def list_reviews(run: Run = "", last: Last = False, json: Json = False) -> int:
    """List what waits for a verdict: node, run, score, critique."""
    from fluidcrew import reviewing

    return asyncio.run(reviewing.list_waiting(run, last=last, as_json=json))


def _verdict(usual: int) -> Callable[..., int]:
    def give(
        node: Node = "",
        key: Key = "",
        score: Score = usual,
        comment: Comment = None,
        seen: Seen = None,
        last: Last = False,
        json: Json = False,
    ) -> int:
        from fluidcrew import reviewing

        return asyncio.run(reviewing.judge(node, key, score, last=last, comment=comment, seen=seen, as_json=json))

    return of_a_company(give)


group.command("accept", help="Let a result count: what depends on it starts.")(_verdict(100))
group.command(
    "reject",
    help="Find a result wanting: what depends on it waits until somebody runs it again, skips it or accepts it.",
)(_verdict(0))


@group.command("rerun")
@of_a_company
def rerun(
    node: Node = "",
    key: Key = "",
    instructions: Annotated[
        str | None, typer.Option("--instructions", "-i", help="Told beside the prompt, with the critique.")
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="Replaces what the node was told.")] = None,
    provider: Annotated[str | None, typer.Option(help="Another provider.")] = None,
    model: Annotated[str | None, typer.Option(help="Another model.")] = None,
    keep_descendants: Annotated[
        bool, typer.Option("--keep-descendants", help="What depends on it keeps its results.")
    ] = False,
    last: Last = False,
    json: Json = False,
) -> int:
    """Run a node again, told what was wrong with it. What depends on it runs again too, nothing else does."""
    from fluidcrew import reviewing

    body = {
        "instructions": instructions,
        "prompt": prompt,
        "llm_backend": provider,
        "llm_model": model,
        "keep_descendants": keep_descendants,
    }
    return asyncio.run(reviewing.rerun(node, key, body, last=last, as_json=json))


@group.command("skip")
@of_a_company
def skip(node: Node = "", key: Key = "", last: Last = False, json: Json = False) -> int:
    """Go on without a node: what waits for it starts."""
    from fluidcrew import reviewing

    return asyncio.run(reviewing.skip(node, key, last=last, as_json=json))


def attempts(
    node: Node = "",
    key: Key = "",
    last: Last = False,
    everything: Annotated[bool, typer.Option("--all", help="What each attempt changed, not only the latest.")] = False,
    json: Json = False,
) -> int:
    """Compare a node's attempts: what each was told, its score, its cost, and what it changed."""
    from fluidcrew import reviewing

    return asyncio.run(reviewing.attempts(node, key, last=last, everything=everything, as_json=json))
