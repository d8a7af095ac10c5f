"""How Fluidcrew is run: on one machine (`deploy.local`) and as a fleet."""
