"""A section of the experiment's description: frozen, and it refuses fields that it does not know.

It lies below all that has a section of its own (data, tasks, methods, aggregators), so that those need not import the
experiment, which is made of them.
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

MAX_COUNT = 1_000_000
Fraction = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]


class Section(BaseModel):
    """A frozen part of the description that knows its fields and refuses others. The string below a field says what it
    means, in the words of docs/experiment.md, which is made of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values(cls, value: object, info: ValidationInfo) -> object:
        # Where a field is none, pydantic would read `true` as the number 1.
        wanted = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (wanted, *get_args(wanted)):
            raise ValueError(f"must not be a truth value ({str(value).lower()})")
        return value
