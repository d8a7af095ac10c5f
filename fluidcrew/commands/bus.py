"""`bus`: the streams and consumers of the bus, as its keeper sees them."""

from __future__ import annotations

import asyncio

import typer

group = typer.Typer(no_args_is_help=True, help="Streams and consumers: apply what is defined, verify it, look at it.")


@group.command()
def apply() -> int:
    """Create and update every stream and consumer; says what changed."""
    from fluidcrew import keeping

    return asyncio.run(keeping.apply())


@group.command()
def verify() -> int:
    """Compare with what is defined, changing nothing; exit code 1 when something differs."""
    from fluidcrew import keeping

    return asyncio.run(keeping.verify())


@group.command()
def info() -> int:
    """Show streams (messages, size, age) and consumers (lag, pending, redelivered)."""
    from fluidcrew import keeping

    return asyncio.run(keeping.info())
