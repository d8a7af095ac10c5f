"""Which models can be had right now."""

from __future__ import annotations

from fastapi import APIRouter

from contracts.weather import ListProviders, Weather
from services.gateway.deps import DeskDep

router = APIRouter(tags=["providers"])


@router.get("/providers")
async def list_providers(desk: DeskDep) -> Weather:
    """Each provider with the circuits of its models that have been used: closed, open until when and why, half open."""
    return await desk.ask(ListProviders())
