"""The sections of the experiment that are the same for every task, method and aggregator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from federa.section import Count, Section

Precision = Literal["auto", "fp32", "bf16", "fp16"]


class Federation(Section):
    """Who takes part: `devices` workers host `clients` owners of data, `clients_per_round` of which train a round.

    The first round begins when `min_devices` (all of them where none is given) are ready. A round draws `over_select`
    clients more than it needs and closes as soon as `clients_per_round` updates are there. At its deadline it closes
    with no fewer than `quorum` (all where none is given); below that it is tried again with other clients, `attempts`
    times in all, and then the run pauses. `deadline_s` counts from the round's announcement; `auto` is twice what the
    slowest of the drawn devices is expected to take by its measured speed; without one a round waits for everybody.

    An update whose distance from the broadcast is more than `norm_limit` times the median of earlier rounds' is
    refused; `null` lets every finite one pass.
    """

    devices: Count = 2
    clients: Count = 10
    clients_per_round: Count = 5
    rounds: Count = 50
    min_devices: Count | None = None
    over_select: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    quorum: Count | None = None
    deadline_s: Literal["auto"] | Annotated[float, Field(gt=0)] | None = None
    attempts: Count = 3
    norm_limit: Annotated[float, Field(gt=1)] | None = 10.0

    @field_validator("deadline_s", mode="before")
    @classmethod
    def _seconds_or_auto(cls, value: object) -> object:
        # pydantic would explain the first branch of the union alone.
        if value is None or value == "auto" or (isinstance(value, int | float) and 0 < value < float("inf")):
            return value
        raise ValueError("must be a number of seconds above 0, auto or null")

    @model_validator(mode="after")
    def _everybody_has_work(self) -> Federation:
        if self.clients < self.devices:
            raise ValueError(f"clients must be at least the number of devices ({self.devices}), not {self.clients}")
        if self.clients_per_round > self.clients:
            raise ValueError(f"clients_per_round must be at most clients ({self.clients})")
        if self.clients_per_round + self.over_select > self.clients:
            raise ValueError(f"over_select must be at most {self.clients - self.clients_per_round}, the clients left")
        if self.quorum is not None and self.quorum > self.clients_per_round:
            raise ValueError(f"quorum must be at most clients_per_round ({self.clients_per_round})")
        if self.min_devices is not None and self.min_devices > self.devices:
            raise ValueError(f"min_devices must be at most devices ({self.devices})")
        return self

    @property
    def devices_to_start(self) -> int:
        """`min_devices` in force."""
        return self.min_devices or self.devices

    @property
    def updates_to_close(self) -> int:
        """`quorum` in force."""
        return self.quorum or self.clients_per_round


class Training(Section):
    """A client's local training. `micro_batch_size` accumulates gradients up to `batch_size` examples a step."""

    epochs: Count = 1
    batch_size: Count = 16
    micro_batch_size: Count | None = None
    precision: Precision = "auto"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
