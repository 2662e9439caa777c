"""docs/experiment.md is what the schema says now, and says something of every field."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from federa.config import Experiment
from federa.config.reference import PAGE, page

ROOT = Path(__file__).resolve().parents[2]


def leaves(tree: dict, prefix: str = "") -> set[str]:
    """The dotted names of a tree's plain values; a list is one."""
    found = set()
    for name, value in tree.items():
        path = f"{prefix}{name}"
        found |= leaves(value, f"{path}.") if isinstance(value, dict) else {path}
    return found


def test_the_committed_page_is_the_schemas():
    assert (ROOT / PAGE).read_text() == page(), "make reference writes it anew"


def test_every_field_has_a_row_with_a_meaning():
    rows = dict(re.findall(r"^\| `([\w.\[\]]+)` \|.*\| ([^|]*) \|$", page(), re.MULTILINE))
    assert leaves(yaml.safe_load(Experiment().to_yaml())) <= rows.keys()
    assert [name for name, meaning in rows.items() if not meaning.strip()] == []


def test_bounds_and_choices_are_said():
    text = page()
    assert "| `lora.dropout` | `0.0` | number, from 0, below 1 |" in text
    assert "| `federation.deadline_s` | null | `auto` or number, above 0 or null |" in text
    assert "| `wire` | `fp32` | `fp32`, `bf16`, `fp16`, `int8` |" in text
    assert "| `methods[].name` | (must be given) | `ft`, `bitfit`, `adapter`, `lora`, `federa` |" in text
    assert "Read by `lora`, `federa`." in text
