"""Everything about federated rounds: quorum, averaging, model numbers, experiments.

Error tree of this package::

    CoordinatorError
    ├── UpdateNotDurable    the disk lost an update: the process ends, its message comes again
    └── IllegalTransition   a round was pushed where its table does not lead: a bug of ours
"""
