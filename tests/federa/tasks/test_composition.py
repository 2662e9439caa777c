"""What is said of the data that was read: records by part and class, and the same in words."""

from __future__ import annotations

from federa.tasks.composition import PARTS, compose, in_words, unseen


def test_records_are_counted_by_class_in_the_classes_order_and_by_part() -> None:
    found = compose(("2", "10", "none"), [0, 1, 0, 0, 1], {"training": [0, 1, 4], "validation": [2], "test": [3]})
    assert (found["documents"], found["parts"]) == (5, {"training": 3, "validation": 1, "test": 1})
    assert found["classes"] == [
        {"name": "2", "documents": 3, "training": 1, "validation": 1, "test": 1},
        {"name": "10", "documents": 2, "training": 2, "validation": 0, "test": 0},
        {"name": "none", "documents": 0, "training": 0, "validation": 0, "test": 0},
    ]
    assert tuple(found["parts"]) == PARTS
    assert in_words(found) == (
        "5 documents, 3 classes: 2 (3), 10 (2), none (0); 3 to train on, 1 for validation, 1 for the test"
    )


def test_without_parts_or_classes_the_rest_is_said() -> None:
    found = compose(("ham", "spam"), [0, 1, 1])
    assert found["parts"] is None and found["classes"][1] == {"name": "spam", "documents": 2}
    assert in_words(found) == "3 documents, 2 classes: ham (1), spam (2)"
    assert in_words(compose(None, [0])) == "1 document"


def test_of_what_stays_on_the_devices_the_classes_alone_are_known() -> None:
    found = unseen(("spam", "ham"))
    assert found == {
        "documents": None,
        "parts": None,
        "classes": [{"name": "spam", "documents": None}, {"name": "ham", "documents": None}],
    }
    assert in_words(found) == (
        "the devices' documents, 2 classes, in this order: spam, ham (no device says how many of each)"
    )
    assert in_words(unseen(None)) == "the devices' documents"


def test_of_many_classes_the_line_names_the_first_and_escapes_them() -> None:
    names = ("\x1b[2J\n", *(f"class {number}" for number in range(149)))
    line = in_words(compose(names, list(range(150)) * 4))
    assert line.startswith(r"600 documents, 150 classes: \x1b[2J\n (4), class 0 (4)") and line.endswith("and 142 more")
    assert line.isprintable() and len(line) < 200
