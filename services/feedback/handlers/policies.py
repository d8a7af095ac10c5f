"""Policies: below which score a result is critical, and how often a node tries again by itself."""

from __future__ import annotations

from uuid import UUID

from chassis.context import Context
from chassis.postgres import Pool
from chassis.unit_of_work import UnitOfWork
from contracts.errors import Code, Rejection
from contracts.feedback import ListPolicies, Policy, PolicyGone, RemovePolicy, Scope, SetPolicy
from contracts.page import Page
from services.feedback.store.policies import PolicyStore


class Policies:
    def __init__(self, uow: UnitOfWork, pool: Pool) -> None:
        self._uow = uow
        self._pool = pool

    async def page(self, request: ListPolicies, _: Context) -> Page[Policy]:
        return await PolicyStore(self._pool).page(request)

    async def set(self, request: SetPolicy, context: Context) -> Policy:
        """Raises Rejection(invalid)."""
        scope_id = _scope_id(request)
        if request.critical_threshold is None and request.auto_revise is None:
            raise _wrong(
                "critical_threshold", "give critical_threshold, auto_revise or both; a DELETE removes the policy"
            )
        async with self._uow.order(request, context) as tx:
            return tx.answer(await PolicyStore(tx.conn).set(request, scope_id))

    async def remove(self, request: RemovePolicy, context: Context) -> PolicyGone:
        """Raises Rejection(not_found) or (invalid)."""
        scope_id = _scope_id(request)
        async with self._uow.order(request, context) as tx:
            gone = await PolicyStore(tx.conn).remove(request.company, request.scope, scope_id)
            if gone is None:
                raise Rejection(Code.NOT_FOUND, f"there is no policy of {request.scope} {request.scope_id}")
            return tx.answer(PolicyGone(removed=gone))


def _scope_id(request: SetPolicy | RemovePolicy) -> str:
    """Raises Rejection(invalid) for an id that nothing could ever have."""
    scope, id = request.scope, request.scope_id
    if scope is Scope.COMPANY and id != request.company:
        raise _wrong("scope_id", f"a company has a policy of its own only: company/{request.company}")
    if scope is not Scope.TASK:
        return id
    try:
        return str(UUID(id))
    except ValueError:
        raise _wrong("scope_id", "the id of a task is a UUID") from None


def _wrong(field: str, message: str) -> Rejection:
    return Rejection(Code.INVALID, message, errors=[{"loc": [field], "msg": message}])
