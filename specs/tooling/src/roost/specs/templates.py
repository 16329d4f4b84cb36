"""Fields of topic templates, and what stands for them in an MQTT filter or an ACL line."""

import re
from collections.abc import Callable
from typing import Final

_FIELD: Final = re.compile(r"\{(\w+)\}")
ANY: Final = "+"


def fields(template: str) -> list[str]:
    """Return the names of a template's fields, in order."""
    return _FIELD.findall(template)


def as_filter(template: str, replace: Callable[[str], str]) -> str:
    """Return the filter of a template.

    A level that is one field becomes whatever ``replace`` returns for its name. A level that has
    a field among other text becomes ``+``, because MQTT knows no smaller wildcard.
    """
    return "/".join(_level(level, replace) for level in template.split("/"))


def _level(level: str, replace: Callable[[str], str]) -> str:
    whole = _FIELD.fullmatch(level)
    if whole is not None:
        return replace(whole[1])
    return ANY if _FIELD.search(level) else level
