"""Files of experiments from what people fetch: an archive of posts, MRQA's and PLONER's corpora."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.prepare_data import main
from federa.data.readers import open_file


def rows(path: Path) -> list[dict[str, Any]]:
    return [dict(row.values) for row in open_file(path).rows]


def archive(path: Path, **posts: str) -> Path:
    with tarfile.open(path, "w:gz") as packed:
        for name, text in posts.items():
            blob = text.encode("latin-1")
            info = tarfile.TarInfo(name)
            info.size = len(blob)
            packed.addfile(info, io.BytesIO(blob))
    return path


def test_newsgroups_are_posts_with_their_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    posts = {
        "20news-bydate-train/sci.med/59": "Subject: café\n\nno\x92",
        "20news-bydate-train/alt.atheism/49": "From: a\n",
        "20news-bydate-test/sci.med/60": "x",
    }
    packed = archive(tmp_path / "20news-bydate.tar.gz", **posts)
    assert main(["20newsgroups", str(packed), "--out", str(tmp_path / "out")]) == 0
    train, test = (rows(tmp_path / f"out/20news-bydate-{part}.jsonl.gz") for part in ("train", "test"))
    assert train == [
        {"id": "alt.atheism/49", "text": "From: a\n", "label": "alt.atheism"},
        {"id": "sci.med/59", "text": "Subject: café\n\nno\x92", "label": "sci.med"},
    ]
    assert test == [{"id": "sci.med/60", "text": "x", "label": "sci.med"}]
    assert "2 posts" in capsys.readouterr().out
    first = (tmp_path / "out/20news-bydate-train.jsonl.gz").read_bytes()
    assert main(["20newsgroups", str(packed), "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/20news-bydate-train.jsonl.gz").read_bytes() == first


def mrqa_file(path: Path, *lines: object) -> Path:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    return path


HEADER = {"header": {"dataset": "SQuAD", "split": "train"}}


def entry(context: str, *spans: list[int]) -> dict[str, Any]:
    answer = {"text": "shown otherwise", "char_spans": list(spans), "token_spans": [[0, 0]]}
    return {"context": context, "qas": [{"qid": f"q{context[0]}", "question": "who?", "detected_answers": [answer]}]}


def test_mrqa_is_questions_with_the_spans_of_their_contexts(tmp_path: Path) -> None:
    squad = mrqa_file(tmp_path / "SQuAD.jsonl.gz", HEADER, entry("Ada met Ada.", [0, 2], [8, 10]))
    news = mrqa_file(tmp_path / "NewsQA.jsonl.gz", HEADER, entry("Bea", [0, 2]))
    out = tmp_path / "mrqa" / "train.jsonl"
    assert main(["mrqa", str(squad), str(news), "--out", str(out)]) == 0
    first, second = rows(out)
    assert first["answers"] == {"text": ["Ada", "Ada"], "answer_start": [0, 8]}
    assert (first["subset"], first["id"], first["question"]) == ("SQuAD", "qA", "who?")
    assert (second["subset"], second["context"]) == ("NewsQA", "Bea")


def test_ploner_is_sentences_of_numbered_corpora(tmp_path: Path) -> None:
    (tmp_path / "connl03_train.txt").write_text("-DOCSTART- O\n\nEU B-ORG\nsays O\n\nno O\n")
    (tmp_path / "wnut16_train.txt").write_text("Ada B-PER\n")
    out = tmp_path / "train.conll"
    files = [str(tmp_path / name) for name in ("connl03_train.txt", "wnut16_train.txt")]
    assert main(["ploner", *files, "--out", str(out)]) == 0
    found = rows(out)
    assert [row["tokens"] for row in found] == [["EU", "says"], ["no"], ["Ada"]]
    assert [row["tags"] for row in found] == [["B-ORG", "O"], ["O"], ["B-PER"]]
    assert len({row["document"] for row in found[:2]}) == 1 and found[2]["document"] != found[0]["document"]


def test_what_is_not_of_the_form_is_named_and_nothing_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = mrqa_file(tmp_path / "SQuAD.jsonl.gz", HEADER, {"context": "x"})
    assert main(["mrqa", str(bad), "--out", str(tmp_path / "out.jsonl")]) == 2
    assert f"{bad} line 2 is not of MRQA's form" in capsys.readouterr().err
    packed = archive(tmp_path / "x.tar.gz", readme="x")
    assert main(["20newsgroups", str(packed), "--out", str(tmp_path)]) == 2
    assert "has no folder 20news-bydate-train" in capsys.readouterr().err
    assert main(["20newsgroups", str(bad), "--out", str(tmp_path)]) == 1
    assert main(["mrqa", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "out.jsonl")]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SQuAD.jsonl.gz", "x.tar.gz"]
