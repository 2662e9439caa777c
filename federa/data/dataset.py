"""A corpus: texts, each with the index of its label."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from federa.errors import BadInput

LONGEST_QUOTE = 60
"""Characters of a label that a refusal quotes whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """`labels[i]` is the index in `label_names` of `texts[i]`'s class."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]
    label_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int]) -> Dataset:
        """The documents at these indices, in that order."""
        return Dataset(
            texts=tuple(self.texts[i] for i in indices),
            labels=tuple(self.labels[i] for i in indices),
            label_names=self.label_names,
        )

    def digest(self) -> str:
        """SHA-256 over label names, texts and labels: devices that deal out the same corpus compare it."""
        sha = hashlib.sha256()
        for name in self.label_names:
            sha.update(f"{len(name.encode())} ".encode() + name.encode())
        for text, label in zip(self.texts, self.labels, strict=True):
            raw = text.encode()
            sha.update(f"{label} {len(raw)} ".encode() + raw)
        return sha.hexdigest()


def make_dataset(rows: Sequence[tuple[str, str]], labels: Sequence[str] | None, source: str) -> Dataset:
    """A corpus from (text, label) pairs; `labels` fixes the classes and their order, else they are those found.

    Raises BadInput when there are no rows, fewer than two classes, or a label outside the fixed ones.
    """
    if not rows:
        raise BadInput(f"data: {source} holds no documents")
    counts = Counter(label for _, label in rows)
    if labels is None:
        if len(counts) < 2:
            raise BadInput(f"data: {source} holds one class only ({next(iter(counts))!r}); at least two are needed")
        labels = sorted(counts)
    else:
        unknown = sorted(counts.keys() - set(labels))
        if unknown:
            # Where the columns are mistaken for one another, they are documents, which are nobody else's to read.
            # Labels recur, and some of them are known.
            known = ", ".join(labels)
            if len(unknown) == len(counts) and 2 * len(counts) > len(rows):
                raise BadInput(
                    f"data: {source} has {len(unknown)} different labels in {len(rows)} documents, and none of "
                    f"{known}: data.label_column must name the labels' column, and they must be spelled just so"
                )
            short = len(unknown[0]) <= LONGEST_QUOTE
            quoted = f"the label {unknown[0]!r}" if short else f"a label of {len(unknown[0])} characters"
            raise BadInput(f"data: {source} has {quoted}, which is none of {known}")
    index = {name: position for position, name in enumerate(labels)}
    return Dataset(
        texts=tuple(text for text, _ in rows),
        labels=tuple(index[label] for _, label in rows),
        label_names=tuple(labels),
    )
