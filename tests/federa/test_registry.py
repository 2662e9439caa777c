"""A registry's mistakes are said in one line that names the table and the entry, to whoever uses the entry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.bench import main
from federa.aggregation import AGGREGATORS, aggregator_class
from federa.config import experiment as schema
from federa.errors import BadInput
from federa.methods import METHODS, method_class
from federa.tasks import TASKS, task_class

WRONG = [
    ("federa.methods.ft:FullFineTunin", "the module federa.methods.ft has no class FullFineTunin"),
    ("federa.methods.fd:FullFineTuning", "'federa.methods.fd:FullFineTuning' cannot be imported: No module named"),
    ("federa.methods.ft:annotations", "the module federa.methods.ft has no class annotations"),
    ("federa.methods.ft", "must be 'module:Class', not 'federa.methods.ft'"),
    ("", "must be 'module:Class', not ''"),
    (".ft:FullFineTuning", "must be 'module:Class', not '.ft:FullFineTuning'"),
]


@pytest.mark.parametrize(("entry", "words"), WRONG)
@pytest.mark.parametrize(
    ("table", "registry", "find", "setting"),
    [
        ("TASKS", TASKS, task_class, "task=mine"),
        ("METHODS", METHODS, method_class, "methods=[{name: mine}]"),
        ("AGGREGATORS", AGGREGATORS, aggregator_class, "aggregator=mine"),
    ],
)
def test_a_wrong_entry_is_named_with_its_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], table, registry, find, setting, entry, words
) -> None:
    monkeypatch.setitem(registry, "mine", entry)
    with pytest.raises(BadInput, match=f"^{table}: 'mine'"):
        find("mine")
    assert main(["--set", setting, "--print-config"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"federa-bench: {table}: 'mine'") and words in line
    assert schema._sections().keys() == {"adapter", "lora"}, "for everybody else the programs start"


def test_a_program_with_a_wrong_entry_starts_and_says_so_in_one_line(tmp_path: Path) -> None:
    program = "import sys; from federa.methods import METHODS; METHODS['mine'] = 'federa.methods.mine:Mine'\n"
    program += "from benchmarks.bench import main; sys.exit(main(sys.argv[1:]))"
    for method, code in (("mine", 2), ("ft", 0)):
        command = [sys.executable, "-c", program, "--method", method, "--print-config"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 1 if code else 0), done.stderr
