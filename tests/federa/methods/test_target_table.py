"""The tables of names by architecture."""

from __future__ import annotations

import pytest

from federa.methods.target_table import OUTPUTS, QUERY_AND_VALUE, Targets


@pytest.mark.parametrize(
    ("architecture", "ends"),
    [
        ("bert", ("query", "value")),
        ("deberta-v2", ("query_proj", "value_proj")),
        ("mpnet", ("q", "v")),
        ("modernbert", ("Wqkv",)),
        # PEFT's table has these, ours not.
        ("codegen", ("qkv_proj",)),
        ("chatglm", ("query_key_value",)),
        # A state-space layer's in_proj is not query and value, and a pattern over a model with images is no name.
        ("zamba", ()),
        ("gemma4", ()),
        ("xlnet", ()),
    ],
)
def test_query_and_value_come_from_the_table_and_then_from_pefts(architecture: str, ends: tuple[str, ...]) -> None:
    assert QUERY_AND_VALUE.ends(architecture) == ends


def test_pefts_table_is_asked_for_lora_alone() -> None:
    assert OUTPUTS.ends("codegen") == () and Targets(by_architecture={}).ends("bert") == ()


def test_ours_agrees_with_pefts_but_where_pefts_takes_more_than_query_and_value() -> None:
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as PEFTS

    differing = {
        name
        for name, ends in QUERY_AND_VALUE.by_architecture.items()
        if isinstance(PEFTS.get(name), list) and tuple(PEFTS[name]) != ends
    }
    assert differing <= {"phi"}
