"""Answers which providers there are, and how the weather is there."""

from __future__ import annotations

from chassis.context import Context
from chassis.llm.models import Models
from chassis.postgres import Pool
from contracts.weather import ListProviders, ProviderWeather, Weather
from services.executor.engine.weather import store


class Providers:
    def __init__(self, pool: Pool, models: Models) -> None:
        self._pool = pool
        self._models = models

    async def list_providers(self, _: ListProviders, __: Context) -> Weather:
        circuits = await store.circuits(self._pool)
        known = self._models.describe().providers
        return Weather(
            items=[
                ProviderWeather(**provider.model_dump(), circuits=[c for c in circuits if c.provider == provider.name])
                for provider in known
            ]
        )
