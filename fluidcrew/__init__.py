"""The command line: a client of the gateway and of the bus like any other."""
