"""Experiments that come along, and files of one's own: what they say, where their data are, what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.arguments import experiment_from, parser
from benchmarks.bench import main
from benchmarks.experiment_file import FOLDER, described, experiment_names, read_experiment
from federa.config import Experiment
from federa.errors import BadInput

NAMES = experiment_names()

FILE = """
about:
  title: Made up
  source: https://example.org/
  licence: CC0
  files:
  - field: source
    names: [mine/train.jsonl, 'mine/train-*.jsonl']
    url: https://example.org/train.jsonl
    note: unpack it
seed: 3
methods: [{name: ft, learning_rate: 0.002}, {name: federa}]
data: {source: mine/train.jsonl, max_length: 32}
federation: {clients: 20, clients_per_round: 6}
small:
  data: {max_length: 16}
  methods: [{name: lora}]
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(FILE)
    return path


def experiment(*arguments: object) -> Experiment:
    return experiment_from(parser().parse_args(list(map(str, arguments))))


def refusal(*arguments: object) -> str:
    with pytest.raises(BadInput) as caught:
        experiment(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


# ---- those that come along


def test_the_table_of_the_paper_comes_along() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("small", [[], ["--small"]], ids=["full", "small"])
def test_each_is_an_experiment_without_its_files(
    name: str, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = read_experiment(name)
    if small and not file.small:
        pytest.skip("it is small")
    found = experiment("--experiment", name, "--data-dir", tmp_path, *small)
    assert found.name == name.replace("_", "-")
    assert found.model == ("embedded" if small or name == "bbc_news" else "roberta-base")
    assert main(["--experiment", name, "--print-config", "--data-dir", str(tmp_path), *small]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["name"] == found.name


@pytest.mark.parametrize("name", NAMES)
def test_each_names_the_files_that_it_reads(name: str) -> None:
    file = read_experiment(name)
    data = file.chosen(small=False).get("data", {})
    assert {listed.field: listed.names[0] for listed in file.files} == {
        field: data[field]
        for field in ("source", "validation_file", "test_file")
        if data.get(field) not in (None, "embedded")
    }


def test_all_are_listed_with_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-experiments", "--data-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, about in described():
        assert f"{name}: {about.title}" in lines
        for file in about.files:
            assert f"    {tmp_path / file.names[0]}: missing, from {file.url}" in lines


def test_a_name_may_be_written_either_way_and_another_is_refused(tmp_path: Path) -> None:
    assert experiment("--experiment", "bbc-news") == experiment()
    assert refusal("--experiment", "imagenet").startswith("--experiment: must be one of ")
    assert "cannot read the experiment" in refusal("--experiment", tmp_path / "none.yaml")


# ---- what a file says


def test_flags_go_on_top_and_a_method_keeps_its_rate(mine: Path) -> None:
    found = experiment("--experiment", mine, "--method", "ft,lora", "--seed", "4", "--set", "data.max_length=8")
    assert [(choice.name, choice.learning_rate) for choice in found.methods] == [("ft", 0.002), ("lora", None)]
    assert (found.seed, found.data.max_length) == (4, 8)


def test_the_small_one_differs_where_it_says_so(mine: Path, tmp_path: Path) -> None:
    full, small = experiment("--experiment", mine), experiment("--experiment", mine, "--small")
    assert (full.data.max_length, small.data.max_length) == (32, 16)
    assert [choice.name for choice in small.methods] == ["lora"]
    assert small.federation == full.federation and small.data.source == full.data.source
    (tmp_path / "plain.yaml").write_text("seed: 1")
    assert "has no small variant" in refusal("--experiment", tmp_path / "plain.yaml", "--small")
    assert refusal("--data", "x.jsonl", "--small") == "--small: goes with --experiment"


def test_another_metric_has_a_target_of_its_own(mine: Path) -> None:
    mine.write_text(f"{FILE}target: {{metric: accuracy, value: 0.5}}\n")
    given = ([], ["--metric", "macro_f1"], ["--metric", "accuracy"], ["--metric", "macro_f1", "--target-acc", "0.4"])
    found = [experiment("--experiment", mine, *one).target for one in given]
    own = experiment("--metric", "macro_f1").target.value
    assert [target.value for target in found] == [0.5, own, 0.5, 0.4] and own != 0.5


def test_fewer_clients_draw_fewer_a_round(mine: Path) -> None:
    assert experiment("--experiment", mine, "--clients", "4").federation.clients_per_round == 4
    assert experiment("--experiment", mine, "--clients", "40").federation.clients_per_round == 6
    given = ("--set", "federation.clients_per_round=6")
    assert "clients_per_round must be at most clients (4)" in refusal("--experiment", mine, "--clients", "4", *given)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  licence: CC0\n", "", "about.licence must be given"),
        ("licence:", "license:", "about.license is not a known field"),
        ("url: https:", "url: ftp:", "about.files.0.url must"),
        ("field: source", "field: model", "about.files.0.field must be 'source', "),
        ("small:\n", "small: [1]\nseed2:\n", "small must be a mapping"),
    ],
)
def test_a_description_that_is_wrong_is_refused(mine: Path, old: str, new: str, said: str) -> None:
    mine.write_text(FILE.replace(old, new))
    message = refusal("--experiment", mine)
    assert said in message and str(mine) in message


# ---- its files


@pytest.mark.parametrize("name", ["mine/train.jsonl", "mine/train-part.jsonl", "train.jsonl"])
def test_a_file_is_found_under_each_of_its_names(mine: Path, tmp_path: Path, name: str) -> None:
    there = put(tmp_path / "data" / name)
    assert experiment("--experiment", mine, "--data-dir", tmp_path / "data").data.source == str(there)


def test_the_data_folder_is_that_of_the_working_directory(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert experiment("--experiment", mine).data.source == str(tmp_path / "data" / "mine" / "train.jsonl")


def test_a_missing_file_is_said_with_where_to_get_it(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--experiment", str(mine), "--data-dir", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert main(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"federa-bench: --experiment {mine}: {tmp_path}/data/mine/train.jsonl is not there: get it from "
        "https://example.org/train.jsonl (unpack it) and put it there, or name the folder that has it with --data-dir"
    )
    assert not (tmp_path / "out").exists()


def test_data_of_ones_own_takes_the_files_place(mine: Path, tmp_path: Path) -> None:
    own = put(tmp_path / "own.jsonl")
    assert experiment("--experiment", mine, "--data", own).data.source == str(own)
