"""Which bytes are documents and what was read from them, and who names them."""

from __future__ import annotations

from chassis.objects import Kept
from contracts.knowledge import document_key

#: True for an object that somebody names
IS_NAMED = """
(exists (select from versions v where v.company_id = o.company_id and v.sha256 = o.sha256)
 or exists (select from versions v where v.company_id = o.company_id and v.text_sha256 = o.sha256))
"""
#: who has spaces may have sent documents
DOCUMENTS = Kept("documents", document_key, IS_NAMED, companies="select distinct company_id from spaces")
