"""Relation classification: the relation of two entities that are marked in a sentence, as in SemEval-2010 Task 8.

The metrics are the task's official score and accuracy. The official score (the scorer of SemEval-2010 Task 8, version
1.2, "(9+1)-way evaluation with directionality taken into account") is the mean of the relations' F1, `Other` left out:

- Of labels such as Cause-Effect(e1,e2) and Cause-Effect(e2,e1) the relation is Cause-Effect. A label without a
  direction is a relation.
- What is right has the label itself: right relation and right direction.
- Precision is over all that are predicted to be of the relation, in either direction; recall over all that are of it by
  their labels, in either direction. F1 is their harmonic mean, 0 where nothing is right.
- The mean is over the relations that the labels have.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field, field_validator

from federa.data.dataset import Record
from federa.data.readers import Row
from federa.tasks.class_counters import count_classes, counter_names, macro_f1, objection
from federa.tasks.entity_markers import Markers, kept, moved_blanks
from federa.tasks.entity_markers import objection as marker_objection
from federa.tasks.metric import Counters, Metric
from federa.tasks.text_classification import ACCURACY, ClassificationData, LabelledText, TextClassification

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from federa.data.batches import Examples

_DIRECTED = re.compile(r"(.+?)\s*\(\s*(?:e1\s*,\s*e2|e2\s*,\s*e1)\s*\)")


def _official(counters: Counters) -> float:
    try:
        return macro_f1(counters, "gold")
    except ValueError:
        return 0.0  # no relation among the labels


class RelationData(ClassificationData):
    """Sentences with two marked entities, each with a relation."""

    max_length: Annotated[int, Field(ge=16)] = 128
    """Tokens at which a sentence is cut: the markers stay, and of the rest what is nearest to the entities."""
    markers: Markers = ("<e1>", "</e1>", "<e2>", "</e2>")
    """What stands before and behind the first entity, and before and behind the second. Each becomes a token."""
    no_relation: str = "Other"
    """The label of entities that stand in none of the relations: macro_f1 leaves it out. The data need not have it."""

    @field_validator("markers")
    @classmethod
    def _told_apart(cls, markers: Markers) -> Markers:
        if any(not marker.strip() or marker != marker.strip() for marker in markers):
            raise ValueError("must be four texts without blanks around them")
        if any(one in other for i, one in enumerate(markers) for j, other in enumerate(markers) if i != j):
            raise ValueError("must be four different texts, none of which is a part of another")
        return markers


class RelationClassification(TextClassification):
    """A classifier over directed relations, which sees the markers as tokens of their own."""

    Data = RelationData
    metrics = (
        Metric(
            name="macro_f1",
            better="higher",
            of=_official,
            target=0.7,
            above=0,
            at_most=1,
        ),
        replace(ACCURACY, target=0.7),
    )

    data: RelationData

    @property
    def added_tokens(self) -> tuple[str, ...]:  # type: ignore[override]
        """The markers."""
        return self.data.markers

    def record(self, row: Row) -> tuple[str, str]:
        """Sentence and label of a row, whose markers are as they must be."""
        text, label = super().record(row)
        found = marker_objection(text, self.data.markers)
        if found:
            opening, closing, other, end = self.data.markers
            raise row.refused(
                found,
                f": a sentence must have one entity in {opening}...{closing} and another in {other}...{end}; "
                "data.markers may name others",
            )
        return text, label

    def embedded_text(self, record: Record) -> str:
        """The sentence without markers: the base model does not know them."""
        text = str(record[0])
        for marker in self.data.markers:
            text = text.replace(marker, "")
        return text

    def made_up(self, tokens: int) -> Sequence[Record]:
        """A long sentence of the last class, and a short one of the first."""
        opening, closing, other, end = self.data.markers
        short = f"{opening}word{closing} word {other}word{end}"
        return LabelledText(f"{short} {'word ' * tokens}", len(self.class_names()) - 1), LabelledText(short, 0)

    def encode(self, records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        """Token ids and labels. A sentence that is too long loses what is farthest from the entities."""
        from federa.data.batches import tokenize

        texts = [moved_blanks(str(record[0]), self.data.markers) for record in records]
        whole = tokenize(texts, [record[1] for record in records], tokenizer, max_length)
        if not whole.cut:
            return whole
        markers = cast("list[int]", tokenizer.convert_tokens_to_ids(list(self.data.markers)))
        rows = list(whole.token_ids)
        full = [index for index, row in enumerate(rows) if len(row) >= max_length]
        long = [texts[index] for index in full]
        with_ends, bare = (
            tokenizer(long, truncation=False, add_special_tokens=ends, verbose=False)["input_ids"]
            for ends in (True, False)
        )
        for index, all_tokens, tokens in zip(full, with_ends, bare, strict=True):
            room = max_length - (len(all_tokens) - len(tokens))
            begin = _place(tokens, all_tokens)
            middle = [tokens[position] for position in kept(tokens, markers, room)]
            rows[index] = [*all_tokens[:begin], *middle, *all_tokens[begin + len(tokens) :]]
        return replace(whole, token_ids=tuple(rows))

    @property
    def class_counters(self) -> frozenset[str]:
        return counter_names(len({relation for relation in self._relations if relation is not None}))

    @property
    def _relations(self) -> list[int | None]:
        """The number of each class's relation; None for that of none."""
        numbers: dict[str, int] = {}
        found: list[int | None] = []
        for label in self.class_names():
            directed = _DIRECTED.fullmatch(label)
            relation = directed[1] if directed else label
            found.append(None if relation == self.data.no_relation else numbers.setdefault(relation, len(numbers)))
        return found

    def _count(self, predicted: Sequence[int], gold: Sequence[int]) -> dict[str, float]:
        relations, pairs = self._relations, list(zip(predicted, gold, strict=True))
        by_relation = count_classes((relations[one], relations[other], one == other) for one, other in pairs)
        return {"correct": float(sum(one == other for one, other in pairs)), **by_relation}

    def _objection(self, counters: Counters) -> str:
        return objection(counters, whole=None not in self._relations)


def _place(part: Sequence[int], whole: Sequence[int]) -> int:
    """Where a sequence begins in another that has tokens before and behind it."""
    return next(
        begin for begin in range(len(whole) - len(part) + 1) if list(whole[begin : begin + len(part)]) == list(part)
    )
