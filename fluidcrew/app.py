"""The command line: one line per command, and how every way of failing becomes one line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from io import TextIOWrapper

import typer

from chassis.printable import printable
from fluidcrew.commands import (
    budget,
    bus,
    deliver,
    demo,
    dlq,
    doctor,
    drill,
    knowledge,
    quality,
    review,
    runs,
    sidecars,
    stack,
    steer,
    tail,
)
from fluidcrew.commands.company import of_a_company
from fluidcrew.exits import Exit, Halt, table

EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code:<4} {meaning}" for code, meaning in table())
OTHER_VERSION = "Another version made this data: go back to that one, or set FLUIDCREW_HOME to a new directory"

app = typer.Typer(
    name="fluidcrew",
    help="Run a company of AI agents: tasks become plans, plans become durable runs, every step can be watched.\n\n"
    "Begin with `fluidcrew demo`. Settings come from the environment and .env (see .env.example).",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # rich's help takes twice as long to come
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

app.command(short_help="start everything, plan and run something, show it, stop")(demo.demo)
app.command(short_help="kill workers, gateway and broker in the middle of a run: what is lost?")(drill.drill)
app.command(short_help="start the stack and keep it running")(stack.up)
app.command(short_help="stop the stack")(stack.down)
app.command(short_help="can this machine run it? each problem with its fix")(doctor.doctor)
app.command(short_help="start a run", epilog=runs.EXAMPLES)(of_a_company(runs.run))
app.command(short_help="list runs")(of_a_company(runs.runs))
app.command(short_help="show a run: its nodes, what they took, its result")(of_a_company(runs.show))
app.command(short_help="how a run or task stands: asked, in effect, finishing, its nodes")(of_a_company(steer.status))
app.command(short_help="what does not move, why, and what releases it")(of_a_company(steer.why))
app.command(short_help="let running nodes finish, start no more")(of_a_company(steer.pause))
app.command(short_help="go on")(of_a_company(steer.resume))
app.command(short_help="end a run for good")(of_a_company(steer.cancel))
app.command(short_help="go on without a node, or without those that failed", epilog=steer.SKIP_EXAMPLES)(
    of_a_company(steer.skip)
)
app.command(short_help="run a task again, keeping what is done")(of_a_company(steer.retry))
app.command(short_help="clear a task's pause and cancel flags")(of_a_company(steer.reset))
app.command(short_help="a node's attempts compared: told, score, cost, what changed")(of_a_company(review.attempts))
app.command(short_help="the quality of a run: scores, decisions, failed criteria")(of_a_company(quality.qa))
app.command(short_help="what went wrong in a run, for who has to mend it")(of_a_company(quality.incident))
app.command("quality", short_help="quality over time, per agent, role or model")(of_a_company(quality.over_time))
app.command(short_help="publish a folder or ZIP as a task's site", epilog=deliver.EXAMPLES)(
    of_a_company(deliver.publish)
)
app.command("open", short_help="open a task's site")(of_a_company(deliver.open_preview))
app.command(short_help="what was delivered: of a run, a task, or all")(of_a_company(deliver.artifacts))
app.command(short_help="remove versions beyond those that are kept")(of_a_company(deliver.sweep))
app.command(short_help="which models can be had right now")(steer.providers)
app.command(short_help="write the sidecars of a run as files")(of_a_company(sidecars.export))
app.command(short_help="check sidecar files against their format", epilog=sidecars.VALIDATE_EXAMPLES)(sidecars.validate)
app.command(short_help="write older sidecars in today's format, elsewhere")(sidecars.normalise)
app.command(short_help="what happens, live from the bus", epilog=tail.EXAMPLES)(tail.tail)
app.add_typer(review.group, name="review", short_help="what waits for your verdict: accept, reject, rerun, skip")
app.add_typer(deliver.group, name="previews", short_help="versions of a task's site: ls, pin, compare, share")
app.add_typer(knowledge.group, name="knowledge", short_help="what the company knows: add, ls, search, rm, spaces")
app.add_typer(quality.group, name="policy", short_help="from which score on results are critical: ls, set, rm")
app.add_typer(budget.group, name="budget", short_help="what models may cost: ls, set, rm")
app.add_typer(bus.group, name="bus", short_help="streams and consumers: apply, verify, info")
app.add_typer(dlq.group, name="dlq", short_help="dead letters: list, show, replay")


def run(arguments: Sequence[str]) -> int:
    """The exit code. Nothing escapes but a traceback somebody asked for with FLUIDCREW_DEBUG=1."""
    return guarded(lambda: app(list(arguments), standalone_mode=False))


def guarded(command: Callable[[], object]) -> int:
    from fluidcrew.surroundings import load_environment

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what a terminal cannot show must not end the command
            stream.reconfigure(errors="replace")
    try:
        load_environment()
        code = command()
        sys.stdout.flush()
        if code == Exit.INTERRUPTED:  # typer's answer to Ctrl-C
            raise KeyboardInterrupt
        return code if isinstance(code, int) else Exit.OK
    except (KeyboardInterrupt, typer.Abort):
        return _say(Halt(Exit.INTERRUPTED, "interrupted"))
    except Exception as error:  # noqa: BLE001 - whatever it was, the reader gets one line and a code
        return _failed(innermost(error))


def innermost(error: Exception) -> Exception:
    """What one of several tasks raised."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _failed(error: Exception) -> int:
    if isinstance(error, BrokenPipeError):
        return _reader_left()
    if os.environ.get("FLUIDCREW_DEBUG"):
        traceback.print_exception(error)
    return _say(halt_of(error))


def _say(halt: Halt) -> int:
    """Without rich: this must work whatever else does not."""
    lines = [f"fluidcrew: {halt}", *(f"  {line}" for line in halt.more)]
    print(printable("\n".join(lines)), file=sys.stderr)
    return halt.code


def _reader_left() -> int:
    """`fluidcrew tail | head` is no failure, and the interpreter must not complain when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.OK


def halt_of(error: Exception) -> Halt:
    if isinstance(error, Halt):
        return error
    if isinstance(error, typer.exceptions.TyperException):
        return _usage(error)
    return _of_the_stack(error) or Halt(
        Exit.INTERNAL, f"a bug of ours ({type(error).__name__}: {error}): run it with FLUIDCREW_DEBUG=1 to see where"
    )


def _usage(error: typer.exceptions.TyperException) -> Halt:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "fluidcrew"
    if isinstance(error, typer._click.exceptions.NoArgsIsHelpError):
        return Halt(Exit.USAGE, "which command?\n" + error.format_message())
    message = error.format_message().rstrip(".").replace("\n", " ").replace("Value error, ", "")
    return Halt(Exit.USAGE, f"{message}: see `{path} --help`")


def _of_the_stack(error: Exception) -> Halt | None:
    """What the supervisor and what it stands on raise on purpose; imported only when something was raised."""
    from chassis.migrate import EditedMigration
    from chassis.roles import RolesRefused
    from deploy.local.environment import BadEnvironment
    from deploy.local.home import HomeUnusable
    from deploy.local.process import StartFailed
    from deploy.local.supervisor import Interrupted

    first, *rest = str(error).splitlines() or [type(error).__name__]
    if isinstance(error, BadEnvironment):
        return Halt(Exit.SETTINGS, first)
    if isinstance(error, HomeUnusable | StartFailed | RolesRefused):
        return Halt(Exit.NOT_READY, first, tuple(rest))
    if isinstance(error, EditedMigration):
        return Halt(Exit.NOT_READY, f"{first}. {OTHER_VERSION}")
    if isinstance(error, Interrupted):
        return Halt(Exit.INTERRUPTED, "interrupted; everything that was started has been stopped")
    return None
