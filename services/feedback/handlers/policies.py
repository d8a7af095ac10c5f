"""Policies: below which score a result is critical, and how often a node tries again by itself."""

from __future__ import annotations

from uuid import NAMESPACE_URL, UUID, uuid5

from chassis.context import Context
from chassis.postgres import Pool
from chassis.unit_of_work import UnitOfWork
from contracts.errors import Code, Rejection
from contracts.feedback import GetPolicy, ListPolicies, Policy, PolicyChanged, PolicyGone, RemovePolicy, SetPolicy
from contracts.page import Page
from contracts.scope import Scope
from services.feedback.store.policies import PolicyStore


class Policies:
    def __init__(self, uow: UnitOfWork, pool: Pool) -> None:
        self._uow = uow
        self._pool = pool

    async def page(self, request: ListPolicies, _: Context) -> Page[Policy]:
        return await PolicyStore(self._pool).page(request)

    async def policy(self, request: GetPolicy, _: Context) -> Policy:
        """Raises Rejection(not_found) or (invalid)."""
        found = await PolicyStore(self._pool).policy(request.company, request.scope, _scope_id(request))
        if found is None:
            raise _none(request)
        return found

    async def set(self, request: SetPolicy, context: Context) -> Policy:
        """Raises Rejection(invalid)."""
        scope_id = _scope_id(request)
        if request.critical_threshold is None and request.auto_revise is None:
            raise _wrong(
                "critical_threshold", "give critical_threshold, auto_revise or both; a DELETE removes the policy"
            )
        async with self._uow.order(request, context) as tx:
            policy = await PolicyStore(tx.conn).set(request, scope_id)
            tx.publish(_changed(request, policy))
            return tx.answer(policy)

    async def remove(self, request: RemovePolicy, context: Context) -> PolicyGone:
        """Raises Rejection(not_found) or (invalid)."""
        scope_id = _scope_id(request)
        async with self._uow.order(request, context) as tx:
            gone = await PolicyStore(tx.conn).remove(request.company, request.scope, scope_id)
            if gone is None:
                raise _none(request)
            nothing = {"critical_threshold": None, "auto_revise": None}
            tx.publish(_changed(request, gone.model_copy(update=nothing), removed=True))
            return tx.answer(PolicyGone(removed=gone))


def _changed(request: SetPolicy | RemovePolicy, policy: Policy, *, removed: bool = False) -> PolicyChanged:
    """One story for each scope, whether there is a policy right now or not."""
    return PolicyChanged(
        company=request.company,
        policy_id=uuid5(NAMESPACE_URL, f"policy:{request.company}/{policy.scope}/{policy.scope_id}"),
        scope=policy.scope,
        scope_id=policy.scope_id,
        critical_threshold=policy.critical_threshold,
        auto_revise=policy.auto_revise,
        removed=removed,
        by=request.by,
    )


def _none(request: GetPolicy | RemovePolicy) -> Rejection:
    return Rejection(Code.NOT_FOUND, f"there is no policy of {request.scope} {request.scope_id}")


def _scope_id(request: GetPolicy | SetPolicy | RemovePolicy) -> str:
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
