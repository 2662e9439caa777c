"""Models and data by their absolute path: coordinator and workers may run in another folder than who names them."""

from __future__ import annotations

import os

from federa.config import DEVICES, EMBEDDED
from federa.models.named import NAMED

_IS_LOCAL = {"model": os.path.isdir, "data.source": os.path.isfile}


def absolute(field: str, value: str) -> str:
    """What the field `model` or `data.source` should say: the path of a folder or file of this machine, or the value
    unchanged where it names none."""
    local = os.path.expanduser(value)
    if value not in (EMBEDDED, DEVICES, *NAMED) and _IS_LOCAL[field](local):
        return os.path.realpath(local)
    return value
