"""Jobs of rag, by kind."""

from __future__ import annotations

INGEST = "ingest"  # {document_id, version}: read, cut, embed and publish one version
REEMBED = "reembed"  # {space_id}: make a space's chunks and vectors as it wants them now
SUPERSEDE = "supersede"  # {space_id, index}: tell of what is searched in place of this index, and remove it
DELETE = "delete"  # {objects}: remove from the store what nobody names any more
GRAPH = "graph"  # {partition, dimension}: build the graph over a partition of vectors that has grown
VECTORS = "vectors"  # {document_id, version}: make the vectors of what is searched by its words alone
