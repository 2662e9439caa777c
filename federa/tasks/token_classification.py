"""Token classification, such as named-entity recognition: a tag for every word. The metrics are entity F1, precision
and recall as seqeval counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from federa.data.dataset import Dataset, Record
from federa.data.readers import DataSource, Row
from federa.data.words import NOWHERE, encode_words
from federa.errors import shown
from federa.tasks.base import Task
from federa.tasks.entity_metrics import COUNTERS, METRICS, count_entities, objection
from federa.tasks.labels import MAX_LABEL, MAX_QUOTED, alike, counted, difference, label_text, listed
from federa.tasks.lost_words import LostWords
from federa.tasks.metric import Counters
from federa.tasks.tag_scheme import OUTSIDE, Tag, split_tag
from federa.tasks.tag_set import TagSet, are_tags, types_in, types_of
from federa.tasks.tagged_sentences import FirstPlaces, TaggedSentence, Words, may_be_words, tag_sentences
from federa.tasks.token_data import TokenData

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from federa.data.batches import Batch, Examples

_NO_WORD = -100
"""Stands for a tag behind the last word of a sentence that has fewer than the batch's longest."""
_OUTSIDE: Tag[int] = (OUTSIDE, -1)


class TokenClassification(Task):
    """A classifier of words, trained by cross entropy at the first token of each."""

    Data = TokenData
    metrics = METRICS
    counters = COUNTERS
    auto_model = "AutoModelForTokenClassification"

    data: TokenData

    # ---- records

    def record(self, row: Row) -> Words:
        """Words and tags of a row, as they are written. A tag that the experiment does not have is refused."""
        words, found = row.lists(self.data.columns)
        tags = list(map(self._named, found))
        for index, tag in enumerate(tags):
            if not tag:
                raise row.refused("has a word without a tag", item=index)
            if len(tag) > MAX_LABEL:
                raise row.refused(f"has a tag of more than {MAX_LABEL} characters", f": {self._doubt}", item=index)
            if fault := self._fault(tag, quotes=not row.private):
                raise row.refused(fault, item=index)
        return tuple(words), tuple(tags)

    def read(self, source: DataSource) -> Dataset:
        """The sentences; scheme and types are found where the experiment does not fix them."""
        places = FirstPlaces()

        def noted(row: Row) -> Words:
            words = self.record(row)
            places.add(row, words[1])
            return words

        return tag_sentences(source.records(noted), self.data, source.name, places)

    def _named(self, tag: str) -> str:
        """A tag as it is compared: of a number, the one that it stands for in the experiment's list."""
        tag, labels = label_text(tag), self.data.labels
        if labels and tag not in labels and tag.isdecimal() and are_tags(labels) and int(tag) < len(labels):
            return labels[int(tag)]
        return tag

    def _fault(self, tag: str, *, quotes: bool) -> str:
        """What is wrong with a tag; empty where it may be. What is said of a private one `quotes` it only where it is
        almost one that is known: else it may be a word, where the columns are mistaken for one another."""
        scheme, labels = self.data.scheme, self.data.labels
        split = split_tag(tag, "iobes") or split_tag(tag, "bilou") if scheme == "auto" else split_tag(tag, scheme)
        if labels is None:
            if split is not None or scheme == "auto":
                return ""
            return f"has a tag that is none of the scheme {scheme} (data.scheme)"
        types = types_of(labels, scheme)
        kind = split[1] if split else tag
        if scheme == "plain":
            fits, known = tag in labels, f"none of {listed(labels)}"
        elif scheme == "auto":
            fits, known = tag == OUTSIDE or kind in types or tag in types, f"of none of the types {listed(types)}"
        else:
            fits = tag == OUTSIDE or (split is not None and kind in types)
            known = f"none of {scheme.upper()} with the types {listed(types)}"
        if fits:
            return ""
        near = alike(kind, [label for label in types if label != kind])
        if len(tag) > MAX_QUOTED or not (quotes or near):
            return f"has a tag that is {known}"
        how = f"; it differs from {shown(ascii(near), MAX_QUOTED)} {difference(near, kind)}" if near else ""
        return f"has the tag {shown(repr(tag))}, which is {known}{how}"

    def identity(self, record: Record) -> str:
        return " ".join(record[0])

    def strata(self, records: Sequence[Record]) -> list[int]:
        """By the type of entity in a sentence that fewest entities are of: a split gives each part some of every type.
        0 are the sentences without an entity."""
        found = [types_in(tags) for _, tags in records]
        counts = Counter(kind for types in found for kind in types)
        return [1 + min(types, key=lambda kind: (counts[kind], kind)) if types else 0 for types in found]

    def class_counts(self, records: Sequence[Record]) -> dict[str, int]:
        """Entities by type."""
        counts = Counter(kind for _, tags in records for kind in types_in(tags))
        return {name: counts[number] for number, name in enumerate(self.tag_set.types)}

    def made_up(self, tokens: int) -> Sequence[Record]:
        """A long sentence that is one entity of the last type, and one word."""
        last = 2 * len(self.tag_set.types)
        return TaggedSentence(("word",) * tokens, (last - 1, *[last] * (tokens - 1))), TaggedSentence(("word",), (0,))

    def describe(self, records: Sequence[Record]) -> tuple[str, str]:
        counts = Counter(tag for _, tags in records for tag in tags)
        summary = f"{len(records):,} sentences with {counts.total():,} words and {len(counts):,} different tags"
        if may_be_words(records):
            return summary, self._doubt
        if counts.keys() == {OUTSIDE}:
            return f"{summary}: every word's is {OUTSIDE}", self._doubt
        return f"{summary}: {counted(dict(sorted(counts.items())))}", ""

    @property
    def _doubt(self) -> str:
        column = shown(repr(self.data.tag_column), MAX_QUOTED)
        return f"is the tag in the column {column}? The experiment's data.tag_column says which it is"

    # ---- the model

    @property
    def tag_set(self) -> TagSet:
        """The tags that the model tells apart. Of a resolved task."""
        assert self.data.labels is not None, "the experiment must be resolved: its labels are known by then"
        return TagSet.of(self.data.labels, self.data.scheme)

    def model_options(self) -> dict[str, Any]:
        names = dict(enumerate(self.tag_set.names))
        return {"id2label": names, "label2id": {name: index for index, name in names.items()}}

    def encode(self, records: Sequence[Record], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
        """A sentence's target are its tags, by the model's columns, and the places of its words' first tokens. A word
        without a token, as those behind the most tokens are, counts as one that the model says O of."""
        from federa.data.batches import Examples
        from federa.data.packed_rows import PackedRows

        columns, lost = self.tag_set.columns, LostWords()
        token_ids, targets = [], []
        sentences = encode_words([record[0] for record in records], tokenizer, max_length)
        for (_, tags), sentence in zip(records, sentences, strict=True):
            lost.add(tags, sentence)
            token_ids.append(np.asarray(sentence.token_ids, dtype=np.int32))
            targets.append(np.asarray([*(columns[tag] for tag in tags), *sentence.places], dtype=np.int32))
        lost.say(max_length)
        return Examples(
            token_ids=PackedRows.pack(token_ids),
            targets=PackedRows.pack(targets),
            pad_id=int(tokenizer.pad_token_id or 0),
            pad_left=tokenizer.padding_side == "left",
            cut=lost.cut,
        )

    def collate(self, examples: Examples, indices: Sequence[int]) -> Batch:
        """Targets are batch x 2 x words: tags, and the places of first tokens. Behind a sentence's last word both are
        below 0."""
        import torch

        from federa.data.batches import collate

        chosen = examples.select(indices)
        batch = collate(replace(chosen, targets=(0,) * len(chosen)), range(len(chosen)))
        rows, longest = list(chosen.targets), max(chosen.lengths)
        most = max(map(len, rows)) // 2
        padded = []
        for row, length in zip(rows, chosen.lengths, strict=True):
            tags, places = row[: len(row) // 2], row[len(row) // 2 :]
            before = longest - length if chosen.pad_left else 0
            rest = most - len(tags)
            shifted = [place if place == NOWHERE else place + before for place in places]
            padded.append(([*tags, *[_NO_WORD] * rest], [*shifted, *[NOWHERE] * rest]))
        return replace(batch, targets=torch.tensor(padded))

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        """Cross entropy, the mean over the words of each sentence that have a token."""
        from torch.nn import functional

        tags, places = batch.targets.unbind(dim=1)
        size, tokens, _ = outputs.logits.shape
        # A column more takes the tags of words without a token.
        wanted = tags.new_full((size, tokens + 1), _NO_WORD)
        wanted = wanted.scatter_(1, places.where(places != NOWHERE, tokens), tags)[:, :tokens]
        losses = functional.cross_entropy(
            outputs.logits.float().transpose(1, 2), wanted, ignore_index=_NO_WORD, reduction="none"
        )
        return (losses.sum(dim=1) / (wanted != _NO_WORD).sum(dim=1).clamp(min=1)).sum()

    # ---- evaluation

    def count(self, outputs: Any, batch: Batch) -> Counters:
        """The entities of a batch, those that the model says, and those that are both: type and words are the same."""
        meanings = self.tag_set.meanings
        tags, places = batch.targets.unbind(dim=1)
        said = outputs.logits.argmax(dim=-1).gather(1, places.clamp(min=0))
        counts: Counter[str] = Counter()
        for wanted, there, columns in zip(tags.tolist(), places.tolist(), said.tolist(), strict=True):
            gold = [meanings[tag] for tag in wanted if tag != _NO_WORD]
            found = [
                _OUTSIDE if place == NOWHERE else meanings[column] for place, column in zip(there, columns, strict=True)
            ]
            counts.update(count_entities(gold, found[: len(gold)]))
        return {name: float(counts[name]) for name in COUNTERS}

    def check(self, counters: Counters) -> str:
        return super().check(counters) or objection(counters)
