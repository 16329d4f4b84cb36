"""One module for each command of `roost`; imported by `roost.cli.app` when called."""
