"""Everything the manager decides, without I/O, clock, randomness or logging."""
