"""How publisher refuses what is not there or cannot be meant."""

from __future__ import annotations

from uuid import UUID

from contracts.errors import Code, Rejection


def wrong(field: str, message: str) -> Rejection:
    return Rejection(Code.INVALID, f"{field}: {message}", errors=[{"loc": [field], "msg": message}])


def no_artifact(id: UUID) -> Rejection:
    return Rejection(Code.NOT_FOUND, f"there is no artifact {id}")


def no_preview(id: UUID) -> Rejection:
    return Rejection(Code.NOT_FOUND, f"there is no preview {id}")
