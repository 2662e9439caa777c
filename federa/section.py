"""A section of the experiment's description: frozen, and it refuses fields that it does not know.

It lies below all that has a section of its own (data, tasks, methods, aggregators), so that those need not import the
experiment, which is made of them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


class Section(BaseModel):
    """A frozen part of the description that knows its fields and refuses others."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values(cls, value: object) -> object:
        # There is no such field, and pydantic would read `true` as the number 1.
        if isinstance(value, bool):
            raise ValueError(f"must not be a truth value ({str(value).lower()})")
        return value
