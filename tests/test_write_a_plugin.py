"""docs/write-a-plugin.md, followed to the letter: in an empty folder, with pip, and an index to publish to."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.environments import ROOT, dependencies, own_wheels, pack, package_index

PAGE = ROOT / "docs" / "write-a-plugin.md"
WORKFLOW = ".github/workflows/test.yaml"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"# (?P<path>[\w./-]+)(?:, (?P<share>in part|whole))?\n")
TOOLS = ("pytest", "setuptools", "uv")
"""What the author installs besides, of which scripts have to be there."""

LANGUAGES = {"bash", "text", "python", "toml", "yaml"}


@dataclass(frozen=True)
class Block:
    """One code block: what language it is in, and for a file its path and whether it is there already."""

    language: str
    content: str
    path: str = ""
    share: str = ""


def blocks() -> list[Block]:
    found = []
    for language, content in FENCE.findall(PAGE.read_text("utf-8")):
        named = NAMED.match(content) if language not in ("bash", "text") else None
        if named is None:
            found.append(Block(language, content))
        else:
            keeps = language == "yaml" or named["share"]
            rest = content[named.end() :]
            found.append(Block(language, rest if keeps else content, named["path"], named["share"] or ""))
    return found


def script(folder: Path) -> str:
    """All blocks in order, as one shell reads them: commands are run, files are written, or kept as they are there."""
    lines = ["set -euo pipefail"]
    for number, block in enumerate(blocks()):
        if block.language == "bash":
            lines += [f"exec > {folder}/{number}.out 2>&1", block.content]
        elif block.share:
            lines.append(f"cp {block.path} {folder}/{number}.file")
        elif block.language != "text":
            path = Path(block.path)
            lines += [f"mkdir -p {path.parent}", f"cat > {path} <<'END OF BLOCK'\n{block.content}END OF BLOCK"]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def transcript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what each block printed (NUMBER.out), and the files that blocks quote (NUMBER.file)."""
    base = tmp_path_factory.mktemp("author")
    served, outputs, work = (base / name for name in ("index", "outputs", "work"))
    for folder in (served, outputs, work):
        folder.mkdir()
    for wheel in own_wheels():
        (served / wheel.name).write_bytes(wheel.read_bytes())
    for name in TOOLS:
        pack(name, served)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
    with package_index(served) as index:
        environment = {
            **kept,
            "HOME": str(base),
            "PYTHONPATH": str(dependencies("pip", *TOOLS)),
            "OMP_NUM_THREADS": "1",
            **index.settings,
        }
        done = subprocess.run(
            ["bash", "-c", script(outputs)], cwd=work, env=environment, text=True, timeout=1200, check=False
        )
    printed = sorted(outputs.glob("*.out"), key=lambda path: int(path.stem))
    assert done.returncode == 0, printed[-1].read_text("utf-8")
    return outputs


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_every_block_runs_and_prints_what_the_page_shows(transcript: Path) -> None:
    ran, shown = "", 0
    for number, block in enumerate(blocks()):
        if block.language == "bash":
            ran = (transcript / f"{number}.out").read_text("utf-8")
        elif block.language == "text":
            missing = [line for line in block.content.splitlines() if not _printed(line, ran)]
            assert not missing, f"the page shows what was not printed: {missing}\n{ran}"
            shown += 1
    assert shown > 5


def _printed(line: str, output: str) -> bool:
    """Whether *output* has *line*, in which "..." stands for anything, whatever the width of columns."""
    pattern = r"\s+".join(re.escape(word).replace(re.escape("..."), ".*") for word in line.split())
    return not line.strip() or re.search(rf"^\s*{pattern}", output, re.MULTILINE) is not None


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_what_the_page_quotes_of_a_new_package_is_in_it(transcript: Path) -> None:
    quoted = [(number, block) for number, block in enumerate(blocks()) if block.share]
    assert {block.share for _, block in quoted} == {"in part", "whole"}
    for number, block in quoted:
        written = (transcript / f"{number}.file").read_text("utf-8")
        assert block.content == written if block.share == "whole" else block.content in written


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_pytest_ran_checks_and_the_index_got_what_was_built(transcript: Path) -> None:
    """Not only that nothing failed: checks were run by pytest, and the upload came from the build."""
    outputs = [path.read_text("utf-8") for path in transcript.glob("*.out")]
    assert any(re.search(r"^=+ \d+ passed, 1 skipped in ", text, re.MULTILINE) for text in outputs)
    assert any("Uploading acme_models-0.1.0-py3-none-any.whl" in text for text in outputs)


def test_every_block_is_run_or_written() -> None:
    found = blocks()
    assert {block.language for block in found} == LANGUAGES
    assert not [block.content for block in found if not block.path and block.language in ("python", "toml", "yaml")]


def test_the_workflow_runs_what_the_page_runs() -> None:
    (workflow,) = (yaml.safe_load(block.content) for block in blocks() if block.path == WORKFLOW)
    steps = [step["run"] for step in workflow["jobs"]["test"]["steps"] if "run" in step]
    lines = [line for block in blocks() if block.language == "bash" for line in block.content.splitlines()]
    assert steps
    assert [step for step in steps if step not in lines] == []
    assert workflow["jobs"]["test"]["env"] == {"ET_PLUGINS_STRICT": "1"}


def test_the_page_has_a_row_and_a_section_for_each_kind_with_a_template() -> None:
    kinds = {path.name for path in (ROOT / "templates" / "plugin" / "kinds").iterdir()}
    text = PAGE.read_text("utf-8")
    assert set(re.findall(r"^\| [^|]+ \| `(\w+)` \|", text, re.MULTILINE)) == kinds
    assert set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) == kinds


def test_modules_and_commands_that_the_page_names_exist() -> None:
    import importlib

    text = PAGE.read_text("utf-8")
    modules = set(re.findall(r"`(et_core\.(?:interfaces|testing)\.\w+)`", text))
    modules |= {shlex.split(line)[3] for line in re.findall(r"`(python -m pydoc [\w.]+)`", text)}
    assert len(modules) >= 10
    for name in modules:
        importlib.import_module(name)
