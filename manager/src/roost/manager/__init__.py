"""The task manager: launches tasks on proplets and forwards messages verbatim."""
