"""Where is a preview or a shared link served? Each site has a host of its own, below the origin of all previews."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

LABEL_BYTES = 20  # 32 characters of base32
SHARE = "share-"


def label_of(random: bytes) -> str:
    """A host's first name: letters and digits that every browser and resolver takes."""
    return base64.b32encode(random[:LABEL_BYTES]).decode().lower()


def digest(secret: str) -> str:
    """A shared link's secret as it is kept: who reads the table cannot open what is shared."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Origin:
    """Of all previews, as browsers reach it: `http://localhost:8001`."""

    scheme: str
    domain: str
    port: int | None

    @classmethod
    def of(cls, url: str) -> Origin:
        parts = urlsplit(url)
        assert parts.hostname is not None, "settings have looked at it"
        return cls(parts.scheme, parts.hostname, parts.port)

    def host(self, label: str) -> str:
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{label}.{self.domain}{port}"

    def latest(self, label: str, company: str, project: str, task_id: UUID) -> str:
        return f"{self.host(label)}/{company}/{project}/{task_id}/"

    def version(self, label: str, version: int, company: str, project: str, task_id: UUID) -> str:
        """A host of its own as well: absolute addresses of its files stay in the version."""
        return self.latest(f"{label}--v{version}", company, project, task_id)

    def share(self, secret: str) -> str:
        return f"{self.host(SHARE + secret)}/"
