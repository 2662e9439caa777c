"""Classes by their names, wherever they stand in a column's value."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from federa.data.readers.class_names import naming_of

CLASS = {"names": ["a", "b"], "_type": "ClassLabel"}
TEXT = {"dtype": "string", "_type": "Value"}
OBJECTS = {"feature": {"label": CLASS, "n": TEXT}, "_type": "Sequence"}
FEATURE = SimpleNamespace(names=["a", "b"])


@pytest.mark.parametrize(
    ("feature", "value", "named"),
    [
        (CLASS, 1, "b"),
        (CLASS, -1, None),
        (CLASS, 2, None),
        (CLASS, None, None),
        (CLASS, "b", "b"),
        ({"feature": CLASS, "_type": "Sequence"}, [0, -1, 1], ["a", None, "b"]),
        ({"feature": CLASS, "_type": "List"}, None, None),
        ([CLASS], [0, 1], ["a", "b"]),
        ([[CLASS]], [[0], [], [1]], [["a"], [], ["b"]]),
        ({"label": CLASS, "text": TEXT}, {"label": 1, "text": "x"}, {"label": "b", "text": "x"}),
        # A sequence of objects, as a list of them and as an object of lists.
        (OBJECTS, [{"label": 1, "n": 1}], [{"label": "b", "n": 1}]),
        (OBJECTS, {"label": [1], "n": [1]}, {"label": ["b"], "n": [1]}),
        # A column may itself be called like that.
        ({"_type": CLASS, "feature": TEXT}, {"_type": 0, "feature": 0}, {"_type": "a", "feature": 0}),
        (FEATURE, 0, "a"),
        (SimpleNamespace(feature=FEATURE), [1, 0], ["b", "a"]),
        ([FEATURE], [1], ["b"]),
        ({"label": [FEATURE]}, {"label": [1]}, {"label": ["b"]}),
    ],
)  # fmt: skip
def test_classes_are_named(feature: Any, value: Any, named: Any) -> None:
    naming = naming_of(feature)
    assert naming is not None and naming(value) == named


@pytest.mark.parametrize(
    "feature", [TEXT, {"feature": TEXT, "_type": "Sequence"}, [TEXT], {"a": TEXT}, [], {}, object(), None]
)
def test_where_there_are_no_classes_nothing_is_changed(feature: Any) -> None:
    assert naming_of(feature) is None
