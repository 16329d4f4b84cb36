"""The agent on Linux devices that runs Wasm tasks in worker processes (specs/task-protocol.md)."""
