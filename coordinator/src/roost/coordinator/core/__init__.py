"""All decisions of the coordinator; pure (no clock, I/O, randomness or logging)."""
