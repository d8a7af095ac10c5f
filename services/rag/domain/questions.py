"""What search needs of an embedding model: the vector of a question, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from contracts.errors import FluidcrewError
from contracts.knowledge import Embedder
from services.rag.domain.spending import Buyer


class NoVectors(FluidcrewError):
    """The model cannot be asked; the message is for people, and names what to do."""


class Questions(Protocol):
    async def vector(self, embedder: Embedder, question: str, buyer: Buyer) -> Sequence[float]:
        """Of length 1. Raises NoVectors."""
        ...
