"""The `roost` command: run everything on one machine, and talk to a Roost anywhere.

Each command lives in a module of `roost.cli.commands`, imported only when it is called. What a
command prints goes through `roost.cli.output`, what can go wrong is in `roost.cli.errors`.
"""
