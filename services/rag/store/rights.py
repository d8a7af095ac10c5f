"""Rights as SQL: the condition that decides, inside the statement that reads, which spaces are open to whom.

A fragment of a where clause over `spaces s`, with five parameters from a number on: whether it is a person, its
principals, its project, its agent id, and the right. No row of grants opens nothing.
"""

from __future__ import annotations

from typing import Any

from contracts.knowledge import Right
from services.rag.domain.rights import Who

PARAMETERS = 5


def open_to(first: int) -> str:
    person, keys, project, agent, right = (f"${first + at}" for at in range(PARAMETERS))
    in_scope = f"""
    (s.scope = 'company' or (s.scope = 'project' and s.scope_id = {project}::text)
     or (s.scope = 'agent' and s.scope_id = {agent}::text))
    """
    return f"""
    ({person}::bool or (
        exists (select from grants g where g.space_id = s.id and g."right" = {right}::text and not g.deny
                and (g.key = any({keys}::text[]) or (g.key = '*' and {in_scope})))
        and not exists (select from grants g where g.space_id = s.id and g."right" = {right}::text and g.deny
                        and (g.key = any({keys}::text[]) or g.key = '*'))))
    """


def arguments(who: Who, right: Right) -> tuple[Any, ...]:
    return (who.is_person, list(who.keys), who.project, who.agent, right)
