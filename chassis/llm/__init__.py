"""The model layer: one call to a language model, whoever provides it."""
