"""Which bytes are deliverables, and who names them."""

from __future__ import annotations

from chassis.objects import Kept
from contracts.artifacts import object_key

#: True for an object that somebody names
IS_NAMED = """
(exists (select from artifacts a where a.company_id = o.company_id and a.sha256 = o.sha256)
 or exists (select from staged t where t.company_id = o.company_id and t.sha256 = o.sha256)
 or exists (select from previews p where p.company_id = o.company_id and p.zip_sha256 = o.sha256)
 or exists (select from previews p where p.company_id = o.company_id and p.state in ('received', 'publishing')
            and jsonb_path_exists(p.tree, '$.*[0] ? (@ == $s)', jsonb_build_object('s', o.sha256)))
 or exists (select from manifests m where m.objects @> array[o.sha256] and m.company_id = o.company_id))
"""
DELIVERABLES = Kept("deliverables", object_key, IS_NAMED)
