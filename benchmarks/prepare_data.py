"""`python -m benchmarks.prepare_data`: makes the files of an experiment out of what its address gives.

20 Newsgroups comes as an archive with a file a post, MRQA and PLONER as one file a corpus. What federa reads is one
file a part; in MRQA's and PLONER's it can still be told which corpus a record is of.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from federa.durable import replacement
from federa.errors import EXIT_ERROR, EXIT_OK, BadInput, FederaError, one_line, shown
from federa.output import prepare_output, print_error


def newsgroups(archives: Sequence[Path], folder: Path) -> Iterator[str]:
    """Write 20news-bydate-train.jsonl.gz and -test.jsonl.gz from the archive 20news-bydate.tar.gz: a post a line, with
    its `id`, `text` and `label`. Yields what was written. Raises BadInput."""
    (archive,) = archives
    posts: dict[str, list[dict[str, str]]] = {"train": [], "test": []}
    with tarfile.open(archive) as packed:
        for member in packed:
            part, _, rest = member.name.removeprefix("./").partition("/")
            group, _, number = rest.partition("/")
            part = part.removeprefix("20news-bydate-")
            if member.isfile() and number and part in posts:
                content = packed.extractfile(member)
                assert content is not None, "it is a file"
                # Posts of the time: no encoding is stated, and Latin-1 reads every byte.
                text = content.read().decode("latin-1")
                posts[part].append({"id": f"{group}/{number}", "text": text, "label": group})
    for part, found in posts.items():
        if not found:
            raise BadInput(f"{archive} has no folder 20news-bydate-{part} with a folder for each group")
        found.sort(key=lambda post: post["id"])
        path = folder / f"20news-bydate-{part}.jsonl.gz"
        yield _written(path, (json.dumps(post) for post in found), f"{len(found)} posts")


def mrqa(files: Sequence[Path], out: Path) -> Iterator[str]:
    """Write the questions of MRQA's files (SQuAD.jsonl.gz, NewsQA.jsonl.gz, ...) into one: a question a line, with its
    `id`, the `subset` that its file is called by, `question`, `context` and `answers`, which are the spans that MRQA
    found in the context. Yields what was written. Raises BadInput."""
    counts: dict[str, int] = {}

    def lines() -> Iterator[str]:
        for path in files:
            subset = path.name.partition(".")[0]
            counts[subset] = 0
            for question in _mrqa_questions(path, subset):
                counts[subset] += 1
                yield json.dumps(question, ensure_ascii=False)

    yield _written(out, lines(), lambda: ", ".join(f"{name} {count}" for name, count in counts.items()))


def _mrqa_questions(path: Path, subset: str) -> Iterator[dict[str, Any]]:
    for number, text in enumerate(_lines(path), start=1):
        try:
            entry = json.loads(text)
            if "header" in entry:
                continue
            context = entry["context"]
            for question in entry["qas"]:
                # Both ends of a span belong to it.
                spans = [span for answer in question["detected_answers"] for span in answer["char_spans"]]
                answers = {"text": [context[a : b + 1] for a, b in spans], "answer_start": [a for a, _ in spans]}
                yield {
                    "id": question["qid"], "subset": subset, "question": question["question"], "context": context,
                    "answers": answers,
                }  # fmt: skip
        except (ValueError, LookupError, TypeError) as error:
            raise BadInput(
                f"{path} line {number} is not of MRQA's form, an object with context and qas, which have qid, question "
                f"and detected_answers with char_spans: {shown(error)}"
            ) from None


def ploner(files: Sequence[Path], out: Path) -> Iterator[str]:
    """Write the sentences of PLONER's files (connl03_train.txt, onbc_train.txt, ...) into one CoNLL file, in which each
    file is a document. Yields what was written. Raises BadInput."""

    def lines() -> Iterator[str]:
        for path in files:
            yield f"-DOCSTART- {path.name} O"
            yield ""
            # Documents of the file's own would be told apart from it.
            yield from (line for line in _lines(path) if not line.startswith("-DOCSTART-"))
            yield ""

    yield _written(out, lines(), f"{len(files)} corpora")


def _lines(path: Path) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\r\n")


def _written(path: Path, lines: Iterator[str], what: str | Callable[[], str]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacement(path) as fresh:
        # Without a time in it, for the same bytes each time.
        raw = fresh.open("wb")
        with raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw as file:
            for line in lines:
                file.write(line.encode() + b"\n")
    return f"{path}: {what if isinstance(what, str) else what()}"


_MAKERS: dict[str, Callable[[Sequence[Path], Path], Iterator[str]]] = {
    "20newsgroups": newsgroups,
    "mrqa": mrqa,
    "ploner": ploner,
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    prepare_output()
    parse = argparse.ArgumentParser(
        prog="python -m benchmarks.prepare_data",
        description="Make the files of an experiment out of what its address gives (federa-bench --list-experiments).",
    )
    parse.add_argument("experiment", choices=_MAKERS)
    parse.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what was fetched")
    parse.add_argument("--out", required=True, type=Path, help="the file to write; of 20newsgroups the folder")
    options = parse.parse_args(arguments)
    try:
        if options.experiment == "20newsgroups" and len(options.files) != 1:
            raise BadInput("20newsgroups is made of one file, 20news-bydate.tar.gz")
        for line in _MAKERS[options.experiment](options.files, options.out):
            print(line)
    except FederaError as error:
        print_error("prepare_data", error)
        return error.exit_code
    except (OSError, EOFError, UnicodeDecodeError, tarfile.TarError) as error:
        print_error("prepare_data", f"{getattr(error, 'filename', None) or options.files[0]}: {one_line(error)}")
        return EXIT_ERROR
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
