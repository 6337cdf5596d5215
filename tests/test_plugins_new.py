"""What ``et plugins new`` writes: packages that load, are checked, are built, installed, trained with, and removed."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from et_core.cli.main import cli
from et_core.errors import ConfigError, EtError
from et_core.registry import KINDS, PluginSet, Status
from et_core.scaffold import NewPlugin
from tests.environments import ROOT, call, fresh_environment, install, own_wheels, uninstall
from tests.fake_dists import fake_dist, on_path, run_python

TEMPLATES = ROOT / "templates" / "plugin"
ASKED = ("backbone", "app", "loss", "head", "tokenizer", "strategy", "distiller")
WRITTEN = sorted(path.name for path in (TEMPLATES / "kinds").iterdir())


def generate(folder: Path, kind: str, name: str = "acme-models", component: str | None = None) -> Path:
    NewPlugin.named(name, kind=kind, component=component).write(folder / name)
    return folder / name


def metadata(package: Path) -> dict[str, object]:
    """The ``project`` table of a package that was written."""
    table: dict[str, object] = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def test_all_kinds_that_were_asked_for_have_a_template() -> None:
    assert set(ASKED) <= set(WRITTEN) <= {kind.name for kind in KINDS.values()}


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_new_package_loads_and_registers_its_component(kind: str, tmp_path: Path) -> None:
    package = generate(tmp_path, kind, "made-up")
    project = metadata(package)
    (module,) = project["entry-points"]["et.plugins"].values()  # type: ignore[index]
    source = (package / "made_up" / "_plugin.py").read_text("utf-8")
    modules = {path.name: path.read_text("utf-8") for path in (package / "made_up").glob("*.py")}
    fake_dist(tmp_path / "site", "made-up", module_source=source, files=modules)
    assert module == "made_up._plugin"
    with on_path(tmp_path / "site"):
        found = PluginSet().find("made-up")
        assert (found.status, found.reason, found.conformance) == (Status.OK, "", "made_up.conformance")
        (entry,) = found.entries
        assert entry.kind == next(k.plural for k in KINDS.values() if k.name == kind)
        assert entry.name.startswith("made-")
        entry.load()


@pytest.mark.parametrize("kind", WRITTEN)
def test_nothing_of_the_templates_is_left_in_a_package(kind: str, tmp_path: Path) -> None:
    package = generate(tmp_path, kind)
    files = [path for path in package.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".py", ".toml", ".md", ".yaml", ".typed", ""}
    for path in files:
        text = path.read_text("utf-8")
        assert not re.search(r"{{|{%|%}|PACKAGE|TESTS|TODO", text), path
        assert not text or text.endswith("\n"), path


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_new_package_keeps_the_style_of_this_repository(kind: str, tmp_path: Path) -> None:
    package = generate(tmp_path, kind)
    for command in (("check",), ("format", "--check")):
        call(
            sys.executable, "-m", "ruff", *command, "--no-cache", "--config", ROOT / "pyproject.toml", ".", cwd=package
        )


@pytest.mark.parametrize("kind", WRITTEN)
def test_the_readme_shows_the_example_and_names_the_files(kind: str, tmp_path: Path) -> None:
    package = generate(tmp_path, kind)
    readme = (package / "README.md").read_text("utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    assert block == (package / "example.yaml").read_text("utf-8")
    assert block.startswith("app:")
    assert yaml.safe_load(block)["data"]["train"] == "train.tsv"
    for name in re.findall(r"^\| `([\w/.]+\.py)`", readme, re.MULTILINE):
        assert (package / name).is_file()


def test_requirements_have_upper_bounds(tmp_path: Path) -> None:
    for kind in WRITTEN:
        project = metadata(generate(tmp_path / kind, kind))
        asked = [*project["dependencies"], *project["optional-dependencies"]["test"]]  # type: ignore[misc, index]
        assert [text for text in asked if "<" not in text] == []


def test_names_are_where_the_user_wants_them(tmp_path: Path) -> None:
    package = generate(tmp_path, "head", "et-rivers", "delta")
    texts = {path.name: path.read_text("utf-8") for path in package.rglob("*") if path.is_file()}
    assert '"delta"' in texts["_plugin.py"]
    assert '"et_rivers.heads:AttentionPool"' in texts["_plugin.py"]
    assert 'name = "et-rivers/delta"' in texts["conformance.py"]
    assert "head: delta" in texts["example.yaml"]
    assert NewPlugin.named("et-rivers", kind="head").component == "rivers-attention-pool"


def test_the_command_writes_says_what_and_what_next(tmp_path: Path) -> None:
    folder = tmp_path / "with space" / "plugin"
    said = CliRunner().invoke(cli, ["plugins", "new", "acme-models", "--kind", "loss", "--folder", str(folder)]).output
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert said.splitlines() == [
        f"{folder}:",
        *(f"  {file}" for file in files),
        "It registers the loss 'acme-focal'. Next:",
        "",
        f"  cd '{folder}'",
        "  pip install -e '.[test]'",
        "  pytest",
        "  et plugins check acme-models",
        "  et train example.yaml data.train=YOUR.tsv",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Acme_Models", "'Acme_Models' cannot be the name of a plugin. Did you mean 'acme-models'?\nNames are"),
        ("acme--models", "'acme--models' cannot be the name of a plugin. Did you mean 'acme-models'?\nNames are"),
        ("2bert", "'2bert' cannot be the name of a plugin.\nNames are lower case letters and digits, joined by"),
        ("../x", "'../x' cannot be the name of a plugin. Did you mean 'x'?\nNames are"),
        ("", "'' cannot be the name of a plugin.\nNames are lower case letters and digits, joined by single '-', and "),
        ("lambda", "'lambda' cannot be the name of a plugin: its package would be a word of Python's own."),
        ("et-bert", "et-bert is a plugin that is installed already: et-bert 0.1.0. Choose another name."),
        ("torch", "torch is a package that is installed already: torch "),
        ("json", "the package of json would be json, which imports another one already. Choose another name."),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(name: str, message: str) -> None:
    with pytest.raises(EtError) as caught:
        NewPlugin.named(name, kind="loss")
    assert str(caught.value).startswith(message)


def test_a_kind_without_a_template_is_refused_with_those_that_have_one() -> None:
    listed = f"Kinds: {', '.join(WRITTEN)}."
    for kind, message in (
        (None, f"--kind is missing: what the plugin adds. {listed}"),
        ("los", f"there is no template for the kind 'los'. Did you mean 'loss'? {listed}"),
        ("tracker", f"there is no template for the kind 'tracker'. {listed}"),
    ):
        with pytest.raises(ConfigError) as caught:
            NewPlugin.named("acme-models", kind=kind)
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("component", "message"),
    [
        ("Focal", "'Focal' cannot be the name of a loss. Names are lower case letters and digits, joined by single"),
        ("mse", "the loss 'mse' is registered by et-core 0.1.0 already. Choose another: --name NAME"),
    ],
)
def test_a_component_s_name_that_cannot_be_used_is_refused(component: str, message: str) -> None:
    with pytest.raises(EtError) as caught:
        NewPlugin.named("acme-models", kind="loss", component=component)
    assert str(caught.value).startswith(message)
    assert NewPlugin.named("acme-models", kind="head", component="mse").component == "mse"


def test_what_exists_is_not_written_over(tmp_path: Path) -> None:
    package = generate(tmp_path, "loss")
    (package / "README.md").write_text("mine", "utf-8")
    with pytest.raises(ConfigError) as caught:
        generate(tmp_path, "loss")
    assert str(caught.value) == f"{package} exists already. Remove it, or write somewhere else: --folder FOLDER"
    assert (package / "README.md").read_text("utf-8") == "mine"


def test_help_loads_neither_torch_nor_the_template_engine() -> None:
    code = (
        "import sys; from et_core.cli.main import cli\n"
        "try: cli(['plugins', 'new', '--help'])\n"
        "finally: print(sorted({'torch', 'jinja2', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    done = run_python(code)
    assert "--kind" in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_environment(tmp_path_factory.mktemp("environment") / "venv")


@pytest.mark.slow
def test_the_wheel_of_et_core_holds_the_templates_as_they_are() -> None:
    (wheel,) = (path for path in own_wheels() if path.name.startswith("et_core-"))
    packed, start = {}, "et_core/templates/"
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(start):
                packed[name.removeprefix(start)] = archive.read(name)
    root = TEMPLATES.parent
    assert packed == {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.slow
def test_all_packages_pass_strict_type_checking(environment: Path, tmp_path: Path) -> None:
    packages = [generate(tmp_path, kind, f"acme-{kind}") for kind in WRITTEN]
    modules = [package / package.name.replace("-", "_") for package in packages]
    strict = ("--strict", "--config-file=", "--cache-dir", tmp_path / "cache")
    python = ("--python-executable", environment / "bin/python")
    path = os.pathsep.join(str(package) for package in packages)
    said = call(sys.executable, "-m", "mypy", *strict, *python, *modules, cwd=tmp_path, MYPYPATH=path)
    assert said.startswith("Success: no issues found")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", WRITTEN)
def test_a_package_is_installed_checked_trained_with_and_removed(
    kind: str, environment: Path, tmp_path: Path, shared_data: Path
) -> None:
    name, et = f"acme-{kind}", environment / "bin/et"
    call(et, "plugins", "new", name, "--kind", kind, cwd=tmp_path)
    package = tmp_path / name
    prepare_training(package, shared_data)
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", package)
    install(environment, *(package / "dist").glob("*.whl"))
    try:
        (entry,) = json.loads(call(et, "plugins", "show", name, "--json"))["entries"]
        assert name in call(et, "plugins", "list")
        assert entry["name"] in call(et, "list", entry["kind"])
        # As the command pytest does, without the folder that it is called in on the path.
        said = call(environment / "bin/python", "-P", "-W", "error", "-m", "pytest", cwd=package)
        assert re.search(rf"^plugin {name}: \d+ checks, \d+ passed$", said, re.MULTILINE), said
        checked = call(et, "plugins", "check", name)
        assert re.search(rf"^{name} 0\.1\.0: \d+ checks, \d+ passed", checked, re.MULTILINE), checked
        assert "model    runs/" in follow_readme(package, environment)
    finally:
        uninstall(environment, name)
    assert name not in call(et, "plugins", "list")
    assert entry["name"] not in call(et, "list", entry["kind"])
    shutil.rmtree(package / "runs")
    said = follow_readme(package, environment, fails=True)
    assert f"unknown {kind} '{entry['name']}'" in said


def prepare_training(package: Path, shared_data: Path) -> None:
    """Put 300 real rows where the README expects its reader's, and a tiny model in the place of a large one."""
    lines = (shared_data / "glue" / "SST-2" / "train.tsv").read_text("utf-8").splitlines()[1:301]
    (package / "YOUR.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n", "utf-8")
    example = package / "example.yaml"
    example.write_text(example.read_text("utf-8").replace("minilm-l6-en", "bert-tiny-random"), "utf-8")


def follow_readme(package: Path, environment: Path, *, fails: bool = False) -> str:
    """Run what the README says to train with, as it stands, but for a few steps only and a model of one layer."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", (package / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (train,) = (block for block in blocks if "et train" in block)
    short = 'et() { command et "$@" train.max_steps=4 train.precision=fp32 model.num_layers=1; }'
    path = f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return call("bash", "-ec", f"{short}\n{train}", cwd=package, fails=fails, PATH=path)
