"""Where a model is: a named one's folder, any other folder, a hub name and its cache."""

from __future__ import annotations

import json
import os
from pathlib import Path

from federa.errors import BadInput, shown
from federa.models.named import NAMED

ADAPTER_CONFIG = "adapter_config.json"


def model_folder(source: str) -> str:
    """Where a model is: the folder of one in NAMED, an existing folder, or else a hub name, unchanged."""
    if source in NAMED:
        return str(NAMED[source].location(source))
    # os.path, not Path: these raise for no text, be it too long or with the name of an unknown user.
    folder = os.path.expanduser(source)
    if os.path.isdir(folder):
        return folder
    if os.path.exists(folder) or source.startswith((".", "~", os.sep)) or source.count("/") > 1:
        raise BadInput(f"model: no such model folder: {source}")
    return source


def local_folder(source: str) -> Path | None:
    """Where a model is on this machine: in a folder, or in the hub's cache. None where it is not; no hub is asked."""
    from transformers.utils.hub import cached_file

    try:
        folder = model_folder(source)
        # A link in a snapshot's folder, which lies with the files of one revision.
        config = None if os.path.isdir(folder) else cached_file(folder, "config.json", local_files_only=True)
    except (BadInput, OSError, ValueError):
        return None
    if config is None:
        return Path(folder) if os.path.isdir(folder) else None
    return Path(config).parent


def refuse_adapter(folder: str, source: str) -> None:
    """Raises BadInput where a folder, or what the hub has under a name, is a PEFT adapter: alone it is no model, and
    beside one it would be loaded into it unasked."""
    from transformers.utils.peft_utils import find_adapter_config_file

    try:
        found = find_adapter_config_file(folder)
    except (OSError, ValueError):
        return  # the hub does not answer, or knows no such name: loading says so
    if found is None:
        return
    try:
        of = json.loads(Path(found).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError, RecursionError):
        of = None
    what = f"a PEFT adapter ({ADAPTER_CONFIG}{f', of {shown(of)}' if of else ''})"
    merge = "merge it into its base model first (merge_and_unload() and save_pretrained() of PEFT) and name that folder"
    if (Path(found).parent / "config.json").is_file():
        raise BadInput(
            f"model: {source} holds {what} beside a model: {merge}, or move the adapter_* files away to have the model "
            "without it"
        )
    raise BadInput(f"model: {source} holds {what}, which is no model: {merge}")
