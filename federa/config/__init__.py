"""The experiment's schema, and what reads one."""

from federa.config.experiment import (
    Experiment,
    MethodChoice,
    Target,
    Wire,
)
from federa.config.parse import parse_experiment, parse_json, parse_yaml, read_tree
from federa.config.sections import Federation, Precision, Training
from federa.data.section import DEVICES, EMBEDDED, DataSection, Partition

__all__ = [
    "DEVICES",
    "EMBEDDED",
    "DataSection",
    "Experiment",
    "Federation",
    "MethodChoice",
    "Partition",
    "Precision",
    "Target",
    "Training",
    "Wire",
    "parse_experiment",
    "parse_json",
    "parse_yaml",
    "read_tree",
]
