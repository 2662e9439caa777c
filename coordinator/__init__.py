"""The coordinator: owns a run, announces rounds, aggregates updates, evaluates, keeps the record. It needs no GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coordinator.operator.api import run_experiment

__all__ = ["run_experiment"]


def __getattr__(name: str) -> object:
    # Not above: importing a part of the package needs neither gRPC nor what else an operator needs.
    if name == "run_experiment":
        from coordinator.operator.api import run_experiment

        return run_experiment
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
