"""Which language models are configured, without secrets."""

from __future__ import annotations

from fastapi import APIRouter

from contracts.executor import DescribeLlm, LlmConfig
from services.gateway.deps import DeskDep

router = APIRouter(prefix="/config", tags=["config"])


@router.get("/llm")
async def get_llm_config(desk: DeskDep) -> LlmConfig:
    return await desk.ask(DescribeLlm())
