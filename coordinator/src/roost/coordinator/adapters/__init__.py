"""Files, messages and arrays around the coordinator's core."""
