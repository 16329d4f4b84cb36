"""Everything about federated rounds: quorum, averaging, model numbers, experiments.

Error tree of this package::

    CoordinatorError
    └── IllegalTransition   a round was pushed where its table does not lead: a bug of ours
"""
