"""Generates what can be derived from the code: tables, schemas, diagrams, settings, the ACL.

``python -m roost.specs`` writes ``specs/``; ``python -m roost.specs --check`` fails with a diff
where a file is stale.
"""
