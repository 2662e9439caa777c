"""Classes of a file of labelled texts: their order, and what is said of labels that are doubtful."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from classify import labels_of, names_of, read_file

from federa.errors import BadInput
from federa.tasks.text_classification import ClassificationData as Data
from federa.tasks.text_classification import TextClassification


def _file(folder: Path, labels: list[object], name: str = "x.jsonl") -> Path:
    rows = [{"text": f"text {number}", "label": label} for number, label in enumerate(labels)]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / name


def _refusal(path: Path, data: Data, *, private: bool = False) -> str:
    with pytest.raises(BadInput) as caught:
        read_file(path, data, private=private)
    message = str(caught.value)
    assert message.startswith(f"data: {path}") and len(message.splitlines()) == 1 and message.isprintable()
    return message.removeprefix(f"data: {path}").strip()


def test_whole_numbers_are_classes_in_numeric_order(tmp_path: Path) -> None:
    numbers = [10, 2, 0, 1, -1] * 3
    for name, labels in (
        ("numbers", numbers),
        ("texts", list(map(str, numbers))),
        ("floats", list(map(float, numbers))),
    ):
        assert names_of(read_file(_file(tmp_path, labels, f"{name}.jsonl"), Data())) == ("-1", "0", "1", "2", "10")
    named = read_file(_file(tmp_path, [f"LABEL_{number % 12}" for number in range(36)]), Data())
    assert names_of(named) == tuple(f"LABEL_{number}" for number in range(12))
    assert labels_of(named) == tuple(number % 12 for number in range(36))


def test_blanks_around_a_label_and_the_decimals_of_a_whole_number_make_no_class(tmp_path: Path) -> None:
    dataset = read_file(_file(tmp_path, ["spam", " spam", "spam ", "ham", "ham\t", "\u00a0ham"]), Data())
    assert names_of(dataset) == ("ham", "spam") and labels_of(dataset) == (1, 1, 1, 0, 0, 0)
    (tmp_path / "x.csv").write_text("text,label\na,1\nb,1.0\nc,0\nd,0.0\n")
    dataset = read_file(tmp_path / "x.csv", Data())
    assert names_of(dataset) == ("0", "1") and labels_of(dataset) == (1, 1, 0, 0)


@pytest.mark.parametrize("nothing", [float("nan"), "NaN", "nan", " ", "\u200b"])
def test_what_is_no_label_makes_no_class(tmp_path: Path, nothing: object) -> None:
    assert "line 3 has no label" in _refusal(_file(tmp_path, [1, 0, nothing, 1.0]), Data())


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["Spam"] * 5 + ["spam"] * 4 + ["ham"] * 4, "'Spam' (5) and 'spam' (4)"),
        (["caf\u00e9"] * 5 + ["cafe\u0301"] * 4, r"'cafe\u0301' (4) and 'caf\xe9' (5)"),
        (["spam"] * 5 + ["sp\u200bam"] * 4, r"'spam' (5) and 'sp\u200bam' (4)"),
        ([0] * 5 + [1] * 4 + ["None"] * 2, "the label 'None' (2), as programs write that there is none"),
    ],
)
def test_labels_that_are_alike_are_refused_until_the_experiment_names_them(
    tmp_path: Path, labels: list[object], words: str
) -> None:
    path = _file(tmp_path, labels)
    message = _refusal(path, Data())
    assert words in message
    if "data.labels" in message:
        named = tuple(dict.fromkeys(map(str, labels)))
        assert names_of(read_file(path, Data(labels=named))) == named


def test_labels_that_nobody_can_tell_apart_cannot_be_named() -> None:
    for pair in (("caf\u00e9", "cafe\u0301"), ("spam", "spam\u200b"), ("hot dog", "hot\u00a0dog")):
        with pytest.raises(ValueError, match="nobody can tell them apart"):
            Data(labels=pair)
    for pair in (("spam", " spam "), ("1", "1.0"), ("1",)):
        with pytest.raises(ValueError, match="must be at least two different labels"):
            Data(labels=pair)
    for pair in (("spam", " "), ("0", "NaN"), ("spam", "x" * 300)):
        with pytest.raises(ValueError, match="which stands for no class"):
            Data(labels=pair)
    assert Data(labels=(" no", "1.0", "Yes", "yes")).labels == ("no", "1", "Yes", "yes")


def test_a_label_that_is_almost_a_known_one_is_told_which(tmp_path: Path) -> None:
    path = _file(tmp_path, ["spam", "Ham", "spam", "ham"])
    for private in (False, True):
        message = _refusal(path, Data(labels=("ham", "spam")), private=private)
        assert message == (
            "has the label 'Ham', which is none of ham, spam; it differs from 'ham' in upper and lower case alone "
            "(line 2): mend it, or name all classes in data.labels"
        )


def test_texts_in_the_place_of_labels_are_refused_and_not_quoted(tmp_path: Path) -> None:
    many = _refusal(_file(tmp_path, [f"a secret {number}" for number in range(20)]), Data())
    assert many.startswith("has 20 different labels in 20 documents: data.label_column must name the labels' column")
    long = _refusal(_file(tmp_path, ["spam", "secret " * 500]), Data())
    assert long.startswith("line 2 has a label of more than 200 characters: is the label in the column 'label'?")
    assert "secret" not in many + long
    # Where the experiment says so, each is a class.
    named = tuple(map(str, range(20)))
    assert names_of(read_file(_file(tmp_path, list(named)), Data(labels=named))) == named


def test_a_refusal_lists_a_few_of_many_classes(tmp_path: Path) -> None:
    known = tuple(f"class {number}" for number in range(150))
    message = _refusal(_file(tmp_path, ["class 1", "class 1", "other", "other"]), Data(labels=known))
    assert message.endswith(
        "none of " + ", ".join(known[:8]) + " and 142 more (line 3): mend it, or name all classes in data.labels"
    )


def test_a_hostile_label_is_escaped(tmp_path: Path) -> None:
    assert r"'\x1b[2Jspam'" in _refusal(_file(tmp_path, ["\x1b[2Jspam"] * 4), Data())
    assert r"'\x1b[2J" in _refusal(_file(tmp_path, ["ham", "\x1b[2Jspam", "ham", "ham"]), Data(labels=("ham", "eggs")))


def test_a_device_that_checks_its_file_is_told_of_labels_that_are_alike(tmp_path: Path) -> None:
    task = TextClassification(Data())
    text, doubt = task.describe([("a", "Spam"), ("b", "spam"), ("c", "10"), ("d", "2"), ("e", "2")])
    assert text == "5 documents with 4 labels"
    text, doubt = task.describe([(str(n), label) for n, label in enumerate(["Spam", "spam", "ham"] * 3)])
    assert text == "9 documents with 3 labels: Spam (3), ham (3), spam (3)"
    assert "'Spam' (3) and 'spam' (3)" in doubt and "data.labels" in doubt
