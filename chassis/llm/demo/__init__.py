"""The provider that needs no network: deterministic, labelled answers made from the prompt itself."""
