"""DBOS on the Postgres of the session."""
