"""What each user of the bus may publish and subscribe to, derived from the streams and consumers.

The names of consumers are whole tokens in the subjects of the JetStream API, and NATS has no wildcard inside a
token: an ephemeral consumer that a service may create therefore has one fixed name, `relay-<service>`.
"""

from __future__ import annotations

from dataclasses import dataclass

from contracts import streams

KEEPER = "keeper"  # the only one that may create, change, purge and delete streams and consumers
CLI = "cli"  # reads every fact, changes nothing


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subject filters of one user. Replies to requests it received are allowed apart from these."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


EVERYTHING = Permissions((">",), (">",))


def inbox_prefix(user: str) -> str:
    """Where the replies to this user's requests arrive; nobody else may listen there."""
    return f"_INBOX_{user}"


def relay_consumer(service: str) -> str:
    """The ephemeral consumer with which a service's outbox compares a stream with its rows."""
    return f"relay-{service}"


def permissions(user: str) -> Permissions:
    """The least that a service, the command line or the keeper can work with."""
    if user == KEEPER:
        return EVERYTHING
    if user == CLI:
        return _reader()
    return _service(user)


def _service(name: str) -> Permissions:
    publish = [f"evt.*.{name}.>", f"live.*.{name}.>", "cmd.>", "rpc.>", f"sig.{name}.>", "dlq.>"]
    publish += ["$JS.API.INFO", "$JS.API.STREAM.INFO.*"]
    for consumer in streams.CONSUMERS:
        if consumer.service == name:
            publish += _pull(consumer.stream, consumer.durable)
    for stream in streams.STREAMS:
        publish += _pull(stream.name, relay_consumer(name)) + _create(stream.name, relay_consumer(name))
    subscribe = [f"{inbox_prefix(name)}.>", f"rpc.{name}.>", "sig.>"]
    if name == "gateway":
        subscribe.append("live.>")
    return Permissions(tuple(publish), tuple(subscribe))


def _pull(stream: str, consumer: str) -> list[str]:
    return [
        f"$JS.API.CONSUMER.INFO.{stream}.{consumer}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        f"$JS.ACK.{stream}.{consumer}.>",
    ]


def _create(stream: str, consumer: str) -> list[str]:
    return [
        f"$JS.API.CONSUMER.CREATE.{stream}.{consumer}",
        f"$JS.API.CONSUMER.CREATE.{stream}.{consumer}.>",
        f"$JS.API.CONSUMER.DELETE.{stream}.{consumer}",
    ]


def _reader() -> Permissions:
    """Reads `evt.>` through push consumers without a name: that form can only create ephemeral ones."""
    return Permissions(
        publish=(
            "$JS.API.INFO",
            "$JS.API.STREAM.INFO.*",
            "$JS.API.CONSUMER.INFO.*.*",
            "$JS.API.CONSUMER.CREATE.EVENTS",
            "$JS.FC.EVENTS.>",
        ),
        subscribe=(f"{inbox_prefix(CLI)}.>", "evt.>", "live.>"),
    )
