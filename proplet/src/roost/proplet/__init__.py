"""The agent on Linux devices that runs Wasm tasks in worker processes (specs/task-protocol.md).

Error tree of this package::

    PropletError
    ├── ImageUnavailable    an image could not be had from where its reference points
    ├── ImageRefused        an image is there, and is no program that this proplet runs
    ├── InputUnavailable    an input could not be had
    ├── MountUnknown        a task names a data mount that this device has not got
    ├── OutputRefused       the broker will never take an output
    └── TaskStopped         someone stopped the task while it was being prepared
"""
