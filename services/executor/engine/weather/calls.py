"""A model call with an eye on the weather: not sent into a closed door, and its end told to all."""

from __future__ import annotations

import inspect
from typing import Any

from chassis.llm.call import Completion, ModelFailure, Prompt
from chassis.llm.models import Models, OnToken
from services.executor.engine.weather.station import Station
from services.executor.engine.weather.ticket import Ticket, Verdict


class Calls:
    def __init__(self, models: Models, station: Station) -> None:
        self._models = models
        self._station = station

    async def complete(self, ticket: Ticket, prompt: Prompt, *, on_token: OnToken, **given: Any) -> Completion[Any]:
        """As `Models.complete`. A failure leaves its verdict on the ticket."""
        station = self._station
        if not (ticket.asked or ticket.probe) and station.view.is_shut(ticket.choice):
            ticket.verdict = Verdict(weather=True)
            raise ModelFailure("server_error", f"{ticket.choice} was not called: its circuit opened a moment before")
        ticket.asked = True
        station.begun(ticket.choice)
        listener = _probing(on_token, station, ticket) if ticket.probe else on_token
        try:
            completion: Completion[Any] = await self._models.complete(ticket.choice, prompt, on_token=listener, **given)
        except ModelFailure as failure:
            ticket.verdict = await station.failed(ticket, failure)
            raise
        await station.answered(ticket)
        return completion


def _probing(on_token: OnToken, station: Station, ticket: Ticket) -> OnToken:
    first = True

    async def listen(piece: str) -> None:
        nonlocal first
        if first:
            first = False
            await station.works(ticket)
        told = on_token(piece)
        if inspect.isawaitable(told):
            await told

    return listen
