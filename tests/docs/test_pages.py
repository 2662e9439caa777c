"""Pages that describe a format name all of it, and nothing that it does not have."""

from __future__ import annotations

import json
import re

import pytest
import result_schema
from documents import DOCUMENTS, ROOT

from federa import bundle
from federa.config import parse_experiment
from protos import federation_pb2 as pb


def first_columns(page: str, heading: str) -> set[str]:
    """What stands as code in the first column of the table under a heading."""
    text = (ROOT / "docs" / page).read_text()
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, heading
    rows = re.findall(r"^\| ([^|]*) \|", section[1], re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_the_result_schema_has_every_key():
    assert first_columns("result-schema.md", "A run") == result_schema.RUN_KEYS
    assert first_columns("result-schema.md", "Added keys of a run") == result_schema.ADDED_RUN_KEYS
    assert first_columns("result-schema.md", "A device") == result_schema.DEVICE_KEYS
    assert first_columns("result-schema.md", "Added keys of a device") == result_schema.ADDED_DEVICE_KEYS
    assert (
        first_columns("result-schema.md", "A point of the curve") | {"examples", "metrics"} == result_schema.POINT_KEYS
    )


def test_the_bundle_has_every_key(tmp_path):
    state = tmp_path / "state"
    state.write_bytes(b"")
    experiment = parse_experiment({"methods": [{"name": "ft"}]})
    bundle.write_bundle(tmp_path, state=state, start=state, facts=bundle.BundleFacts(
        experiment=experiment, base_digest="0", round=1
    ))  # fmt: skip
    written = json.loads((tmp_path / bundle.DESCRIPTION).read_text())
    files = {"state.safetensors", "start.safetensors", "bundle.json"}
    assert first_columns("result-schema.md", "The bundle") - {"final"} == written.keys()
    assert all(f"`{name}`" in (ROOT / "docs/result-schema.md").read_text() for name in files)


def test_the_wire_protocol_has_every_message_of_the_control_stream():
    text = (ROOT / "docs/wire-protocol.md").read_text()
    for message in (pb.WorkerMessage, pb.CoordinatorMessage):
        for field in message.DESCRIPTOR.fields:
            assert f"`{field.message_type.name}`" in text, field.name


def test_the_glossary_has_the_words_of_the_field():
    text = (ROOT / "docs/concepts.md").read_text()
    words = re.findall(r"^\*\*([\w ]+)\*\*: ", text, re.MULTILINE)
    assert words == sorted(words, key=str.casefold) and len(words) > 20


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def links(text: str) -> list[str]:
    """Where relative links lead, without the place in the page."""
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)", text)
    return [target for target in targets if not re.match(r"\w+:", target)]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files(page):
    # As GitHub shows the pages; the site's own are checked when it is built.
    for target in links(page.read_text()):
        assert (page.parent / target).exists(), target


def test_a_file_that_the_site_shows_has_a_link_for_those_who_read_elsewhere():
    shown = [
        (page, file) for page in DOCUMENTS for file in re.findall(r'^--8<-- "(.+)"$', page.read_text(), re.MULTILINE)
    ]
    assert len(shown) >= 5
    for page, file in shown:
        assert f"../{file}" in links(page.read_text()), f"{page.name} shows {file}"
