"""FeDeRA in federated learning: the method, its models, its data and one description of a run.

Nothing here knows a network, a clock or a device. Importing the package is cheap: torch, transformers and PEFT are
imported where they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from federa.bundle import load_bundle
    from federa.config import Experiment
    from federa.result import read_result

__version__ = "0.1.0"
__all__ = ["Experiment", "__version__", "load_bundle", "read_result"]

_HOMES = {"Experiment": "federa.config", "load_bundle": "federa.bundle", "read_result": "federa.result"}
"""The modules of what stands in `__all__`: loaded when it is asked for."""


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
