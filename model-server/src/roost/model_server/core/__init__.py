"""All decisions of the model server; pure (no clock, I/O, randomness or logging)."""
