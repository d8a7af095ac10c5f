"""LangChain's vector store on Postgres, as its documentation takes it, and its hybrid search."""
