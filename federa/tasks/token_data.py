"""The experiment's `data` section for sentences whose words have tags."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator, model_validator
from typing_extensions import Self

from federa.data.section import DEVICES, DataSection
from federa.tasks.labels import fixed_labels, numbers_as_text
from federa.tasks.tag_scheme import OUTSIDE
from federa.tasks.tag_set import types_of


class TokenData(DataSection):
    """Sentences as words, with a tag for each of them."""

    token_column: str = "tokens"
    """The column of the words, a list for each sentence."""
    tag_column: str = "tags"
    """The column of their tags, a list of the same length. Of a CoNLL file it may be the number of a column."""
    labels: tuple[str, ...] | None = None
    """The types of entities in their order, such as [person, place]; or the tags, such as [O, B-person, I-person],
    whose numbers may then stand in the data. Of plain tags all of them, O too where it is one. Without it they are
    those found. Where `source` is `devices` they must be given."""
    scheme: Literal["auto", "iob2", "iob1", "iobes", "bilou", "plain"] = "auto"
    """How tags say where an entity begins. `auto` finds it out: `plain` tags have no prefix such as B-."""

    @field_validator("labels", mode="before")
    @classmethod
    def _whole_numbers_are_labels_too(cls, labels: object) -> object:
        return numbers_as_text(labels)

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        found = None if labels is None else fixed_labels(labels, least=1)
        if found is not None and not types_of(found):
            raise ValueError(f"must hold at least one type of entities, not {OUTSIDE} alone")
        return found

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        if self.source == DEVICES and self.labels is None:
            raise ValueError(
                "labels must name the types of entities in their order where source is devices, such as [person, place]"
            )
        if self.scheme == "plain" and self.labels is not None and len(self.labels) < 2:
            raise ValueError(
                f"labels must be at least two where scheme is plain, {OUTSIDE} among them where it is a tag"
            )
        if self.token_column == self.tag_column:
            raise ValueError(f"tag_column must be another column than token_column ({self.token_column})")
        return self
