"""How a run comes into being."""
