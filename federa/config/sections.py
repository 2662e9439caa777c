"""The sections of the experiment that are the same for every task, method and aggregator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from federa.section import MAX_COUNT, Count, Section

Precision = Literal["auto", "fp32", "bf16", "fp16"]


class Federation(Section):
    """Who takes part, and when a round is over."""

    devices: Count = 2
    """Workers that take part."""
    clients: Count = 10
    """Owners of data, spread over the devices. At least as many as devices; with devices' own data exactly as many,
    and that is the default there."""
    clients_per_round: Count = 5
    """Clients that train in a round. Without it five, or all `clients` if there are fewer."""
    rounds: Count = 50
    """The run ends after so many rounds, also where the target was not reached."""
    min_devices: Count | None = None
    """The first round begins when so many devices are ready. Without it all of them must be."""
    over_select: Annotated[int, Field(ge=0, le=MAX_COUNT)] = 0
    """Clients drawn beyond `clients_per_round`. The round closes as soon as `clients_per_round` updates are there."""
    quorum: Count | None = None
    """How many updates are enough at the deadline, or when nobody is left to wait for. Without it all are needed."""
    deadline_s: Literal["auto"] | Annotated[float, Field(gt=0)] | None = None
    """Seconds from the round's announcement. `auto` is twice what the slowest of the drawn devices is expected to take
    by its measured speed. Without it a round waits for everybody."""
    attempts: Count = 3
    """How often a round below its quorum is tried with other clients before the run pauses or, where nobody is left to
    wait for, ends."""
    norm_limit: Annotated[float, Field(gt=1)] | None = 10.0
    """An update this many times further from the broadcast than the median of earlier rounds is refused. `null` lets
    every finite one pass."""

    @field_validator("deadline_s", mode="before")
    @classmethod
    def _seconds_or_auto(cls, value: object) -> object:
        # pydantic would explain the first branch of the union alone.
        if value is None or value == "auto" or (isinstance(value, int | float) and 0 < value < float("inf")):
            return value
        raise ValueError("must be a number of seconds above 0, auto or null")

    @model_validator(mode="after")
    def _all_of_fewer_clients(self) -> Federation:
        if "clients_per_round" not in self.model_fields_set:
            # It is frozen for everybody else. Pydantic's floor cannot make a default of another field's value.
            object.__setattr__(self, "clients_per_round", min(self.clients_per_round, self.clients))
        return self

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
    """A client's local training, with AdamW."""

    epochs: Count = 1
    """Passes over the client's data in a round."""
    batch_size: Count = 16
    """Examples in an optimizer step."""
    micro_batch_size: Count | None = None
    """Examples at a time, where memory is short: gradients are accumulated up to `batch_size`. Without it all of a
    step's examples at once."""
    precision: Precision = "auto"
    """What the device computes in; what is trained stays fp32. `auto`: bf16 where the hardware has it,
    fp16 on an older GPU, else fp32."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's."""
    max_grad_norm: Annotated[float, Field(gt=0)] | None = 1.0
    """Gradients are clipped to this norm. `null` clips none."""
