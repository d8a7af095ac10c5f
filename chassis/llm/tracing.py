"""OpenTelemetry GenAI spans around model calls: names, tokens and outcome, never a word of the prompt or answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from chassis.llm.call import ModelChoice, ModelFailure, Record


@contextmanager
def call_span(choice: ModelChoice, endpoint: str | None, max_tokens: int) -> Iterator[Span]:
    attributes: dict[str, str | int] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": choice.provider,
        "gen_ai.request.model": choice.model,
        "gen_ai.request.max_tokens": max_tokens,
    }
    if endpoint:
        attributes["server.address"] = endpoint
    tracer = trace.get_tracer(__name__)
    with tracer.start_as_current_span(
        f"chat {choice.model}",
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,  # a failure's message may quote the model
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            kind = error.kind if isinstance(error, ModelFailure) else type(error).__name__
            span.set_attribute("error.type", kind)
            span.set_status(StatusCode.ERROR, kind)
            raise


def describe(span: Span, record: Record) -> None:
    span.set_attribute("gen_ai.response.model", record.model_used)
    span.set_attribute("gen_ai.usage.input_tokens", record.usage.prompt_tokens)
    span.set_attribute("gen_ai.usage.output_tokens", record.usage.completion_tokens)
    span.set_attribute("fluidcrew.llm.simulated", record.simulated)
    if record.cost.amount is not None:
        span.set_attribute("fluidcrew.llm.cost_usd", float(record.cost.amount))
