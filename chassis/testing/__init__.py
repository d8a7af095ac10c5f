"""What tests stand on: real servers, fresh databases, and waiting for signals instead of sleeping."""
