"""Round protocol: federated rounds, updates, models, experiments (specs/round-protocol.md)."""
