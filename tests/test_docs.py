from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import shlex
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

import et_core as et
from et_core.cli.main import cli
from et_core.config import RunConfig, load_config
from et_core.config.validate import describe
from et_core.registry import registry

ROOT = Path(__file__).resolve().parents[1]
MARKDOWN = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/*/*.md", "examples/*.md", "benchmarks/*.md", "plugins/*/*.md")
    for path in ROOT.glob(pattern)
)
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
ROW = re.compile(r"^\| `(?P<key>[\w.]+)` \| (?P<type>[^|`]+) \| `(?P<default>[^|]*)` \| (?P<meaning>[^|]+) \|$")
APPS = ("classification", "matching")
OWN_WORDS = {"data.train", "data.dev"}
"""Settings whose type has no words of its own in the code."""


def fenced(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def settings(section: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Key, type and value of every setting of *section* and the sections in it."""
    hints = typing.get_type_hints(type(section), include_extras=True)
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        if dataclasses.is_dataclass(value):
            yield from settings(value, f"{path}{field.name}.")
        elif field.name != "options":
            yield f"{path}{field.name}", hints[field.name], value


def arguments(target: Callable[..., Any], path: str) -> Iterator[tuple[str, Any, Any]]:
    hints = typing.get_type_hints(target, include_extras=True)
    for name, parameter in inspect.signature(target).parameters.items():
        if name != "self":
            yield f"{path}{name}", hints[name], parameter.default


def test_every_setting_is_documented_with_its_type_and_default_and_none_besides() -> None:
    pages = re.split(r"^### app: (\w+)$", (ROOT / "docs" / "config.md").read_text("utf-8"), flags=re.MULTILINE)
    found: dict[tuple[str, str], re.Match[str]] = {}
    for app, page in zip(("", *pages[1::2]), pages[::2], strict=True):
        matches = [match for match in map(ROW.match, page.splitlines()) if match]
        found |= {(app if match["key"].startswith("app.") else "", match["key"]): match for match in matches}
    expected = {("", key): (hint, default) for key, hint, default in settings(RunConfig())}
    for app in APPS:
        target = registry("apps").get(app).__init__
        expected |= {(app, key): (hint, default) for key, hint, default in arguments(target, "app.")}
    assert sorted(found) == sorted(expected)
    for key, (hint, default) in expected.items():
        assert yaml.safe_load(found[key]["default"]) == yaml.safe_load(yaml.safe_dump(default)), key
        assert key[1] in OWN_WORDS or found[key]["type"] == describe(hint), key


def test_every_option_of_an_objective_is_documented_with_its_default() -> None:
    text = (ROOT / "docs" / "config.md").read_text("utf-8").partition("## objective")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| `(\w+)` \| `([^`]*)` \|", text, re.MULTILINE)
    target = registry("objectives").get("in-batch-negatives").__init__
    given = ("model", "apps", "rest")
    expected = {("in-batch-negatives", key): value for key, _, value in arguments(target, "") if key not in given}
    assert {(objective, option): yaml.safe_load(value) for objective, option, value in rows} == expected


def test_every_strategy_option_is_documented_with_its_default() -> None:
    text = (ROOT / "docs" / "config.md").read_text("utf-8").partition("## strategy")[2]
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| `([^`]*)` \|", text, re.MULTILINE)
    found = {(strategy, option): yaml.safe_load(default) for strategy, option, default in rows}
    strategies = registry("strategies")
    expected = {
        (name, key): default
        for name in strategies.names()
        if strategies.find(name).distribution == "et-core"
        for key, _, default in arguments(strategies.get(name).__init__, "")
    }
    assert found == expected


def config_blocks() -> list[Any]:
    return [
        pytest.param(block, id=f"{name_of(path)}-{number}")
        for path in MARKDOWN
        for number, block in enumerate(fenced(path, "yaml"))
        if block.startswith("app:")
    ]


@pytest.mark.parametrize("block", config_blocks())
def test_configs_in_the_documents_are_accepted(block: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(block, "utf-8")
    check(path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_accepted(path: Path) -> None:
    assert check(path).output == f"runs/{path.stem}"


def shown_examples() -> list[Any]:
    """A link to an example, with a colon after it, and the config that follows."""
    pattern = re.compile(r"^\[(examples/[\w-]+\.yaml)\]\(.*?\):\n\n```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return [
        pytest.param(*found, id=f"{name_of(path)}-{Path(found[0]).stem}")
        for path in MARKDOWN
        for found in pattern.findall(path.read_text("utf-8"))
    ]


@pytest.mark.parametrize(("example", "shown"), shown_examples())
def test_examples_in_the_documents_are_the_files(example: str, shown: str) -> None:
    lines = (ROOT / example).read_text("utf-8").splitlines(keepends=True)
    assert shown == "".join(line for line in lines if not line.startswith("#"))


def check(path: Path) -> RunConfig:
    from et_core.training import check_config

    config = load_config(path).config
    check_config(config)
    target, _, source = config.model.ref.partition("@")
    family = registry("backbones").get(target if source == "init" else registry("presets").get(target).family)
    unknown = set(config.model.options) - {field.name for field in dataclasses.fields(family.Options)}
    assert not unknown
    return config


def commands() -> list[Any]:
    """Every line in a code block that calls ``et``, without comments and what comes after a pipe or redirection."""
    rows = []
    for path in MARKDOWN:
        lines = [line for block in fenced(path, "bash") for line in block.splitlines()]
        lines += re.findall(r"`(et [a-z][^`]*)`", path.read_text("utf-8"))
        for line in lines:
            for part in re.split(r" \| (?=et )", line):
                if part.startswith("et ") and "..." not in part:
                    rows.append(pytest.param(part, id=f"{name_of(path)}: {part}"))
    return rows


@pytest.mark.parametrize("line", commands())
def test_commands_in_the_documents_exist_with_these_options(line: str) -> None:
    words = shlex.split(line.partition(" > ")[0], comments=True)[1:]
    group: click.Command = cli
    context = click.Context(cli)
    while isinstance(group, click.Group) and words:
        found = group.get_command(context, words.pop(0))
        assert found is not None, line
        group = found
    # A command may be mentioned without its arguments; an option that does not exist is an error all the same.
    group.make_context("et", [*words], resilient_parsing=not any(word.startswith("-") for word in words))
    if group.name in ("train", "distill", "config"):
        pairs = [word for word in words if "=" in word]
        load_config(None, [pair for pair in pairs if "KEY" not in pair and "NEW" not in pair])


LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("path", MARKDOWN, ids=name_of)
def test_relative_links_lead_somewhere(path: Path) -> None:
    broken = []
    for target in LINK.findall(re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def anchors(path: Path) -> set[str]:
    """The anchors that a Markdown page makes of its headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("plugin", ["et-adabert", "et-appzoo", "et-bert", "et-hcnn"])
def test_a_plugin_s_readme_lists_all_that_it_registers(plugin: str) -> None:
    readme = (ROOT / "plugins" / plugin / "README.md").read_text("utf-8")
    entries = et.plugins().find(plugin).entries
    assert entries
    assert [entry.name for entry in entries if f"`{entry.name}`" not in readme] == []


def test_every_public_name_is_what_it_says_also_after_its_submodule_was_imported() -> None:
    importlib.import_module("et_core.registry")
    assert [name for name in et.__all__ if not callable(getattr(et, name))] == []


def test_the_changelog_has_the_version_that_is_built() -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_layers_in_the_documents_are_those_that_are_checked() -> None:
    import tomllib

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = [re.findall(r"[\w.]+", layer) for layer in contracts[0]["layers"]]
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| ((?:`et_core\.\w+`(?:, )?)+) \|", text, re.MULTILINE)
    assert [sorted(re.findall(r"et_core\.\w+", row)) for row in rows] == [sorted(layer) for layer in layers]


REVIEWS = [{"text": f"{word} {number}", "label": label} for number in range(12) for word, label in
           (("good", "yes"), ("bad", "no"))]  # fmt: skip


def train(output: Path, **overrides: Any) -> et.Run:
    config: Mapping[str, Any] = {
        "app": "classification",
        "model": "bert-tiny-random",
        "data": {"train": REVIEWS, "dev": REVIEWS[:8]},
        "train": {"max_steps": 2, "batch_size": 8},
        "output": str(output),
    }
    return et.train(config, overrides, progress=False)


def test_the_example_metric_is_measured_in_a_run_that_names_its_file(tmp_path: Path) -> None:
    file = ROOT / "examples" / "my_metric.py"
    run = train(tmp_path / "run", **{"plugins.files": [str(file)], "metrics": ["accuracy", "kappa"]})
    assert list(run.metrics) == ["accuracy", "kappa", "loss"]
    # Both labels are equally frequent, so that chance agrees on half of the rows.
    assert run.metrics["kappa"] == pytest.approx(2 * run.metrics["accuracy"] - 1)
    assert et.load(tmp_path / "run").evaluate(REVIEWS[:8])["kappa"] == pytest.approx(run.metrics["kappa"])


def test_the_example_in_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    importlib.import_module("python_api").main(str(tmp_path / "run"), "bert-tiny-random")
    printed = capsys.readouterr().out
    assert "accuracy" in printed
    assert "works every day" in printed
    assert (tmp_path / "run" / "results.json").is_file()


def test_what_a_run_leaves_is_what_the_documents_list(tmp_path: Path) -> None:
    run = train(tmp_path / "run", **{"train.trackers": ["tensorboard"]})
    documented = set(re.findall(r"`([\w./]+)`", "".join(_first_cells(ROOT / "docs" / "run-folder.md"))))
    found = {
        (path.relative_to(run.path).parts[0] + "/" if "/" in (name := str(path.relative_to(run.path))) else name)
        if not name.startswith("model/")
        else name
        for path in run.path.rglob("*")
        if path.is_file() and (name := str(path.relative_to(run.path)))
    }
    assert found == documented - {"model/extra.safetensors", "skipped.jsonl", "search/", "trials/"}


def _first_cells(path: Path) -> list[str]:
    return re.findall(r"^\|([^|]*)\|", path.read_text("utf-8"), re.MULTILINE)
