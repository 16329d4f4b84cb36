"""Task protocol: launching, running, watching and cancelling tasks (specs/task-protocol.md)."""
