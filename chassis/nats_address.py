"""Where the bus is: the servers that NATS_URL names, and the login that holds for every one of them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class NatsAddress:
    """A cluster tells its clients of servers whose addresses hold no login: nats-py would come to them without any,
    be refused, and close for good. Given beside the servers, the login is used for all."""

    servers: list[str]
    user: str | None = None
    password: str | None = None

    @classmethod
    def of(cls, url: str) -> NatsAddress:
        """`nats://user:password@one:4222,nats://user:password@two:4222`"""
        servers = [server.strip() for server in url.split(",") if server.strip()]
        first = urlsplit(servers[0]) if servers else urlsplit("")
        return cls([_without_login(server) for server in servers], first.username, first.password)

    @property
    def login(self) -> dict[str, str]:
        """As nats-py takes it. A name without a password is a token."""
        if self.user is None:
            return {}
        return {"token": self.user} if self.password is None else {"user": self.user, "password": self.password}


def _without_login(server: str) -> str:
    """FastStream refuses a login that is given in two places."""
    scheme, separator, rest = server.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
