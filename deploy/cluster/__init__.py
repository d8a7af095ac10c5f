"""A fleet on one machine: three NATS servers that form a cluster, R3 streams, several of each service."""
