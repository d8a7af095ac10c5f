"""What rag reaches outside its database: the reading process, the embedding processes, and other providers of vectors."""
