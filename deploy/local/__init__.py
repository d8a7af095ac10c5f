"""The stack on one machine: embedded NATS, Postgres and S3, and the supervisor that runs the services on them."""
