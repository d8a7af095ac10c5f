"""The vocabulary of the bus: what two services must agree on, and nothing else. Imports pydantic only."""
