"""What of tagged sentences does not reach the model: words behind the most tokens, and those that a tokenizer makes
nothing of."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from federa.data.words import NOWHERE, EncodedWords
from federa.tasks.tag_set import spans

log = logging.getLogger("federa.tasks")


class LostWords:
    """Counts over sentences: how many were cut, entities, those of them that lost a word so, and words without a token
    before any cut."""

    def __init__(self) -> None:
        self.cut = self.entities = self.lost = self.hidden = 0

    def add(self, tags: Sequence[int], encoded: EncodedWords) -> None:
        """Count a sentence, by a record's tags."""
        whole, places = encoded.whole, encoded.places
        found = spans(tags)
        self.entities += len(found)
        self.hidden += places[:whole].count(NOWHERE)
        if whole < len(places):
            self.cut += 1
            self.lost += sum(NOWHERE in places[max(first, whole) : last + 1] for first, last in found)

    def say(self, max_length: int) -> None:
        """Log what is lost, if anything."""
        if self.lost:
            log.info(
                "data: %s of %s entities lie behind %d tokens (data.max_length): they count as not found",
                f"{self.lost:,}", f"{self.entities:,}", max_length,
            )  # fmt: skip
        if self.hidden:
            log.info("data: the tokenizer makes nothing of %s words: they are taken to be O", f"{self.hidden:,}")
