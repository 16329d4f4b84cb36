"""What runs inside a worker process: the standard library and wasmtime, nothing else of Roost.

A worker starts once per task, so every import here is paid for by every task.
"""
