"""The data of each experiment that comes along, from small files of the forms in which people have them, up to who
trains on what."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.arguments import experiment_from, parser
from benchmarks.prepare_data import main as prepare
from coordinator.evaluation.run_data import RunData, read_run_data
from federa.config import Experiment

GROUPS = ("sci.med", "alt.atheism")
RELATIONS = ("Cause-Effect(e1,e2)", "Other")


def posts(folder: Path) -> None:
    for part in ("train", "test"):
        with gzip.open(folder / f"20news-bydate-{part}.jsonl.gz", "wt") as file:
            for number in range(120):
                file.write(
                    json.dumps({"id": number, "text": f"{part} post {number}", "label": GROUPS[number % 2]}) + "\n"
                )


def relations(folder: Path) -> None:
    for name in ("TRAIN_FILE.TXT", "TEST_FILE_FULL.TXT"):
        blocks = (
            f'{n}\t"The <e1>fire</e1> made {name} <e2>smoke</e2> {n}."\n{RELATIONS[n % 2]}\nComment:\n\n'
            for n in range(1, 121)
        )
        (folder / name).write_text("".join(blocks))


def sentences(separator: str, *names: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name in names:
            lines = (f"Ada{n}{separator}B-person\nruns{separator}O\n\n" for n in range(60))
            (folder / name).write_text("".join(lines))

    return write


def squad(folder: Path) -> None:
    for part in ("train", "dev"):
        paragraphs = []
        for n in range(60):
            question = {"id": f"{part}{n}", "question": f"who? {n}", "answers": [{"text": "Ada", "answer_start": 0}]}
            paragraphs.append({"context": f"Ada was here, {part} {n}.", "qas": [question]})
        articles = [{"title": "t", "paragraphs": paragraphs}]
        (folder / f"{part}-v1.1.json").write_text(json.dumps({"version": "1.1", "data": articles}))


def ploner(folder: Path) -> None:
    corpora = [f"{name}_{part}.txt" for part in ("train", "dev", "test") for name in ("connl03", "wnut16")]
    sentences(" ", *corpora)(folder)
    for part in ("train", "dev", "test"):
        files = [str(folder / f"{name}_{part}.txt") for name in ("connl03", "wnut16")]
        assert prepare(["ploner", *files, "--out", str(folder / f"{part}.conll")]) == 0


def mrqa(folder: Path) -> None:
    for part in ("train", "dev"):
        files = []
        for subset in ("SQuAD", "NewsQA"):
            files.append(folder / part / f"{subset}.jsonl.gz")
            files[-1].parent.mkdir(exist_ok=True)
            answer = {"text": "Ada", "char_spans": [[0, 2]], "token_spans": [[0, 0]]}
            with gzip.open(files[-1], "wt") as file:
                file.write(json.dumps({"header": {"dataset": subset}}) + "\n")
                for n in range(60):
                    question = {"qid": f"{part}{n}", "question": f"who? {n}", "detected_answers": [answer]}
                    file.write(json.dumps({"context": f"Ada was here, {subset} {part} {n}.", "qas": [question]}) + "\n")
        assert prepare(["mrqa", *map(str, files), "--out", str(folder / f"{part}.jsonl")]) == 0


WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "20newsgroups": ("20newsgroups", posts),
    "semeval2010": ("semeval2010_task8", relations),
    "wnut2017": ("wnut2017", sentences("\t", "train.conll", "dev.conll", "test.conll")),
    "squad": ("squad_v1.1", squad),
    "ploner": ("ploner", ploner),
    "mrqa": ("mrqa", mrqa),
}


def read(name: str, data: Path, *arguments: str) -> tuple[Experiment, RunData]:
    folder, write = WRITERS[name]
    (data / folder).mkdir()
    write(data / folder)
    given = ["--experiment", name, "--data-dir", str(data), *arguments]
    found = experiment_from(parser().parse_args(given))
    return found, read_run_data(found)


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("small", [[], ["--small"]], ids=["full", "small"])
def test_each_reads_its_files(name: str, small: list[str], tmp_path: Path) -> None:
    found, data = read(name, tmp_path, *small)
    assert data.dataset is not None
    assert min(len(data.parts[part]) for part in ("training", "validation", "test")) > 0
    given = len(data.parts["test"])
    assert given == {"20newsgroups": 120, "semeval2010": 120, "ploner": 120, "mrqa": 120}.get(name, 60)
    assert data.needs_clusters == (found.task in ("token-classification", "question-answering"))


@pytest.mark.parametrize(("name", "column"), [("ploner", "document"), ("mrqa", "subset")])
def test_joined_corpora_can_be_dealt_out_as_they_grew(name: str, column: str, tmp_path: Path) -> None:
    natural = ["data.partition.kind=natural", f"data.partition.column={column}", "data.partition.over=auto"]
    found, data = read(name, tmp_path, "--clients", "2", *(word for one in natural for word in ("--set", one)))
    shards, _ = data.deal(None)
    groups = data.dataset.groups if data.dataset else ()
    assert [len({groups[index] for index in shard}) for shard in shards] == [1, 1]
    assert found.federation.clients_per_round == 2
