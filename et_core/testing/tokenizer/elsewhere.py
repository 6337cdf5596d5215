"""A tokenizer in another process, whose hash tables have another order: what it encodes there."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from et_core.interfaces import Tokenizer
from et_core.registry import plugins, registry
from et_core.testing.parts import child_environment, loaded_files

_TIMEOUT = 300
_PROGRAM = "from et_core.testing.tokenizer.elsewhere import answer; answer()"


def ask(
    folder: Path,
    tokenizer: Tokenizer,
    *,
    name: str,
    texts: Sequence[str],
    corpus: Sequence[str],
    arguments: Mapping[str, Any],
) -> Any:
    """What becomes of *tokenizer* in a new process: of its saved files, of a pickle, and of fitting it there.

    Gives for "saved", "pickled" and "fitted" either "fingerprint" and "ids" of *texts* or an "error" in words. It is
    fitted on *corpus* with *arguments*; where there are none, it is not.
    """
    saved = folder / "saved"
    saved.mkdir()
    tokenizer.save(saved)
    try:
        (folder / "pickle").write_bytes(pickle.dumps(tokenizer))
    except Exception as error:  # noqa: BLE001 - found again as the answer, where it is asked for
        (folder / "unpickled").write_text(f"{type(error).__name__}: {error}", "utf-8")
    question = {
        "name": name,
        "texts": list(texts),
        "corpus": list(corpus),
        "fit": dict(arguments),
        "files": loaded_files(),
    }
    (folder / "question.json").write_text(json.dumps(question), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(folder)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the other process failed:\n{done.stderr}")
    return json.loads((folder / "answer.json").read_text("utf-8"))


def answer() -> None:
    """The other process: reads the question from the folder that it is called with, and writes the answer there."""
    folder = Path(sys.argv[-1])
    question = json.loads((folder / "question.json").read_text("utf-8"))
    for file in question["files"]:
        plugins().add_file(Path(file))
    cls = registry("tokenizers").get(question["name"])
    texts = question["texts"]
    made: dict[str, Callable[[], Tokenizer]] = {
        "saved": lambda: cls.load(folder / "saved"),
        "pickled": lambda: _unpickle(folder),
    }
    if question["fit"]:
        made["fitted"] = lambda: cls.fit(question["corpus"], **question["fit"])
    answers = {how: _described(make, texts) for how, make in made.items()}
    (folder / "answer.json").write_text(json.dumps(answers), "utf-8")


def _unpickle(folder: Path) -> Tokenizer:
    if (problem := folder / "unpickled").is_file():
        raise pickle.PicklingError(problem.read_text("utf-8"))
    found: Tokenizer = pickle.loads((folder / "pickle").read_bytes())
    return found


def describe(tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, Any]:
    """What two equal tokenizers have in common."""
    return {"fingerprint": tokenizer.fingerprint(), "ids": tokenizer.encode(texts, max_length=10_000).ids}


def _described(make: Callable[[], Tokenizer], texts: Sequence[str]) -> dict[str, Any]:
    try:
        return describe(make(), texts)
    except Exception as error:  # noqa: BLE001 - a tokenizer may fail in any way, and that is the answer
        return {"error": f"{type(error).__name__}: {error}"}
