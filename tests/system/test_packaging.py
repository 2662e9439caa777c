"""The distribution's facts: its name, its extras, and what the messages say of them."""

from __future__ import annotations

import configparser
import re
import subprocess
from pathlib import Path

import pytest

from federa import __version__
from federa.extras import how_to_add

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def tracked_files() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a clone of the repository")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_the_distribution_is_not_called_as_somebody_elses_on_pypi(setup_cfg):
    assert setup_cfg["metadata"]["name"] == "federa-edge"
    own = re.findall(r"^([\w-]+)\[", setup_cfg["options.extras_require"]["dev"], re.MULTILINE)
    assert own == ["federa-edge"]


def test_the_commands_keep_their_names(setup_cfg):
    scripts = re.findall(r"^(\S+) =", setup_cfg["options.entry_points"]["console_scripts"], re.MULTILINE)
    assert {"federa-bench", "federa-coordinator", "federa-worker", "federa-report", "federa-certs"} <= set(scripts)


def test_no_file_tells_anybody_to_install_the_other_federa():
    tells = re.compile(r"pip install (-\S+ )*['\"]?federa(?!-edge)")
    for path in tracked_files():
        if path.suffix in {".py", ".md", ".cfg", ".toml", ".yaml", ".yml", ""} and path != Path(__file__):
            assert not tells.search(path.read_text(encoding="utf-8", errors="replace")), path


def test_every_extra_that_a_message_names_is_one(setup_cfg):
    named = set()
    for package in ("federa", "edge", "coordinator", "benchmarks"):
        for path in (ROOT / package).rglob("*.py"):
            named |= set(re.findall(r"how_to_add\(['\"](\w+)['\"]\)", path.read_text()))
    assert named and named <= set(setup_cfg["options.extras_require"])
    assert how_to_add("demo") == "pip install -e '.[demo]' in a clone of federa"


def test_every_requirement_has_its_pins(setup_cfg):
    """One file pins the whole environment of today; the other the oldest of each, which `make test-floor` installs."""

    def names(text: str) -> set[str]:
        found = re.findall(r"^([A-Za-z][\w-]*)(?!.*\[)", text, re.MULTILINE)
        return {name.lower() for name in found} - {"federa-edge"}

    pinned, floor = (names((ROOT / file).read_text()) for file in ("constraints.txt", "constraints-floor.txt"))
    extras = setup_cfg["options.extras_require"]
    required = names(setup_cfg["options"]["install_requires"])
    assert required | set().union(*(names(extras[extra]) for extra in extras)) <= pinned
    assert required | set().union(*(names(extras[extra]) for extra in ("cpu", "demo", "data", "test"))) <= floor


def test_what_other_files_must_repeat_is_what_setup_cfg_says(setup_cfg):
    """Its format lets no other file be read from it, nor the other way round."""
    dockerfile, makefile, readme = (
        (ROOT / name).read_text() for name in ("docker/Dockerfile", "Makefile", "README.md")
    )
    assert f"\nARG VERSION={__version__}\n" in dockerfile
    assert f'licenses="{setup_cfg["metadata"]["license_expression"]}"' in dockerfile
    assert setup_cfg["metadata"]["license_expression"] in readme
    pythons = re.findall(r"Python :: (3\.\d+)", setup_cfg["metadata"]["classifiers"])
    assert setup_cfg["options"]["python_requires"] == f">={pythons[0]}"
    for text in (makefile, readme, (ROOT / "CONTRIBUTING.md").read_text(), (ROOT / "docs/quickstart.md").read_text()):
        assert f"{pythons[0]} to {pythons[-1]}" in text
    egg_info = setup_cfg["metadata"]["name"].replace("-", "_") + ".egg-info"
    assert egg_info in makefile


def test_ci_takes_its_packages_from_where_the_machine_does():
    # `docker.io` is a package of Debian's.
    text = (ROOT / ".ci/run").read_text().replace("install -y -qq docker.io", "")
    assert not re.search(r"https?://|\b[\w-]+\.(org|com|io|net)\b", text)
