"""Full fine-tuning: every parameter is trained and travels."""

from __future__ import annotations

from federa.methods.base import Method


class FullFineTuning(Method):
    """The upper bound in accuracy, and in bytes. There is nothing to build and nothing to start."""

    learning_rate = 3e-4

    def trains(self, name: str) -> bool:
        return True
