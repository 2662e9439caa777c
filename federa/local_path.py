"""Models and data by their absolute path: coordinator and workers may run in another folder than who names them."""

from __future__ import annotations

import os

from federa.config import DEVICES, EMBEDDED
from federa.models.named import NAMED

_IS_LOCAL = {
    "model": os.path.isdir,
    "data.source": os.path.isfile,
    "data.validation_file": os.path.isfile,
    "data.test_file": os.path.isfile,
}
PATH_FIELDS = tuple(_IS_LOCAL)
"""The fields that may name a folder or a file."""


def absolute(field: str, value: str) -> str:
    """What one of PATH_FIELDS should say: the path of a folder or file of this machine, or the value
    unchanged where it names none."""
    local = os.path.expanduser(value)
    if value not in (EMBEDDED, DEVICES, *NAMED) and _IS_LOCAL[field](local):
        return os.path.realpath(local)
    return value
