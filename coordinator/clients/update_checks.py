"""Checking an update before a byte of its state moves: what its header says, and how far it may be."""

from __future__ import annotations

import math
from statistics import median

from coordinator.clients.errors import RunNotReady, UpdateRefused
from federa.config import Training
from protos import federation_pb2 as pb


def check_header(update: pb.UpdateHeader, announced: int | None, training: Training) -> None:
    """Raise UpdateRefused for what no honest worker says of its update, and RunNotReady where it has not `announced`
    yet how many examples its client has."""
    name = f"update of client {update.client} for round {update.round}"
    if announced is None:
        raise RunNotReady(f"worker {update.worker} has not said how many examples it has")
    if update.examples != announced:
        raise UpdateRefused(f"{name} must stand for the {announced} examples announced, not for {update.examples}")
    if not math.isfinite(update.loss):
        raise UpdateRefused(f"{name} has the loss {update.loss}")
    if not all(0 <= milliseconds < math.inf for milliseconds in update.step_ms):
        raise UpdateRefused(f"{name} has a step time that no clock says")
    own = training.micro_batch_size or training.batch_size
    if update.micro_batch and update.micro_batch >= own:
        raise UpdateRefused(
            f"{name} has a micro-batch of {update.micro_batch}, which is not below the experiment's {own}"
        )


def distance_limit(distances: list[float], factor: float | None) -> float | None:
    """How far from its broadcast an update may be: so many times the median of earlier rounds. None where there is no
    earlier one, or none that moved."""
    usual = median(distances) if distances else 0.0
    return usual * factor if factor is not None and usual > 0 else None
