"""LangGraph with its Postgres checkpointer."""
