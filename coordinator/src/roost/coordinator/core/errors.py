"""The error tree of the coordinator; drawn in the package's docstring."""


class CoordinatorError(Exception):
    """Something is wrong inside the coordinator."""


class UpdateNotDurable(CoordinatorError):  # noqa: N818 - names what happened
    """An update was written but the disk did not keep it; its message comes again."""


class IllegalTransition(CoordinatorError):  # noqa: N818 - names what happened
    """A round was pushed where its table does not lead: a bug of ours."""
