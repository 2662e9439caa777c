"""Full fine-tuning: every parameter is trained and communicated."""

from __future__ import annotations

from federa.methods.base import Method


class FullFineTuning(Method):
    """The most that can be trained, and the most bytes. There is nothing to build, and nothing to merge."""

    learning_rate = 3e-4

    def communicated(self, name: str) -> bool:
        return True
