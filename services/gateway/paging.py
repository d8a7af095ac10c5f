"""Pages over HTTP: limit, offset and order in; items with links, `Link` and `X-Total-Count` out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypedDict, TypeVar

from fastapi import Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from services.gateway.domain.paging import Direction, neighbours, ordering

T = TypeVar("T")
P = TypeVar("P", bound="PageOf[Any]")

BIGGEST_OFFSET = 2**31 - 1


class Links(BaseModel):
    prev: str | None
    next: str | None


class PageOf(BaseModel, Generic[T]):
    """One page of a list; `total` counts what the filters match."""

    model_config = ConfigDict(serialize_by_alias=True)

    items: list[T]
    total: int
    limit: int
    offset: int
    links: Links = Field(alias="_links")


class Bounds(TypedDict):
    limit: int
    offset: int
    order_by: str | None


@dataclass(frozen=True, slots=True)
class Paging:
    """What part of a list the client wants, and the answer it goes into."""

    request: Request
    response: Response
    limit: int
    offset: int
    order_by: str | None

    @property
    def bounds(self) -> Bounds:
        """As the fields of a PageRequest."""
        return {"limit": self.limit, "offset": self.offset, "order_by": self.order_by}

    def of(self, kind: type[P], items: Sequence[Any], total: int) -> P:
        query = self.request.query_params.multi_items()
        near = neighbours(self.request.url.path, query, limit=self.limit, offset=self.offset, total=total)
        self.response.headers["X-Total-Count"] = str(total)
        if near.header:
            self.response.headers["Link"] = near.header
        links = Links(prev=near.prev, next=near.next)
        return kind(items=list(items), total=total, limit=self.limit, offset=self.offset, _links=links)


def paged(default: str) -> Callable[..., Paging]:
    """A dependency; `default` is the field that a lone `order_dir` is about."""

    def read(
        request: Request,
        response: Response,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        offset: Annotated[int, Query(ge=0, le=BIGGEST_OFFSET)] = 0,
        order_by: Annotated[
            str | None, Query(max_length=64, description="a field, with a leading `-` for descending")
        ] = None,
        order_dir: Annotated[Direction | None, Query(description="wins over the sign of `order_by`")] = None,
    ) -> Paging:
        return Paging(request, response, limit, offset, ordering(order_by, order_dir, default))

    return read
