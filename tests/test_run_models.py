"""Which model a run is of stays known: pinned commits, weights that changed meanwhile, families of one name."""

from __future__ import annotations

import functools
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from et_core import api
from et_core.errors import CheckpointError, ConfigError, RunFolderError
from et_core.registry import registry
from et_core.sources import HubSource
from tests.fake_dists import fake_dist, registering, run_python
from tests.hub_server import HubServer

ROWS = "text\tlabel\n" + "".join(
    f"{word} film {n}\t{label}\n" for n in range(6) for word, label in (("good", "yes"), ("bad", "no"))
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of a small run, as another tool would have written it: without a manifest."""
    folder = tmp_path_factory.mktemp("first")
    api.train(settings(folder, "bert-tiny-random", max_steps=1))
    for name in ("MANIFEST.json", "et.json"):
        (folder / "run" / "model" / name).unlink()
    return folder / "run" / "model"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server:
        options = {"endpoint": server.url, "cache": tmp_path / "hub"}
        monkeypatch.setattr(HubSource, "__init__", functools.partialmethod(HubSource.__init__, **options))
        yield server


def settings(folder: Path, ref: str, *, tokenizer: str | None = None, max_steps: int = 9) -> dict[str, Any]:
    (folder / "train.tsv").write_text(ROWS, "utf-8")
    train = {"max_steps": max_steps, "batch_size": 4, "precision": "fp32", "lr": 1e-3, "checkpoint_every": 3}
    return {
        "app": "classification",
        "model": {"ref": ref, "tokenizer": tokenizer},
        "data": {"train": str(folder / "train.tsv")},
        "train": {**train, "keep_checkpoints": 5},
        "output": str(folder / "run"),
    }


def stop(run: Path) -> None:
    """Make of a finished run what a kill after its second checkpoint leaves."""
    (run / "results.json").unlink()
    shutil.rmtree(run / "model")
    shutil.rmtree(run / "checkpoints" / "step-000009")


def files_of(model: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in model.iterdir()}


def other_weights(model: Path, folder: Path) -> Path:
    """A copy of *model* in which every weight is another."""
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor + 0.1 for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize("ref", ["acme/tiny@hf", "acme/tiny@hf:main"])
def test_a_run_goes_on_from_the_commit_it_began_with(model: Path, hub: HubServer, tmp_path: Path, ref: str) -> None:
    commit = hub.push("acme/tiny", files_of(model))
    config = settings(tmp_path, ref, tokenizer=ref)
    whole = api.train(config)
    expected = load_file(whole.folder.model / "model.safetensors")
    stop(whole.path)
    pinned = {"ref": f"acme/tiny@hf:{commit}", "tokenizer": f"acme/tiny@hf:{commit}", "family": "et-bert/bert"}
    assert yaml.safe_load(whole.folder.config_file.read_text())["model"] == pinned

    newer = hub.push("acme/tiny", files_of(other_weights(model, tmp_path / "other")))
    again = api.train(config, resume=True)
    assert commit != newer
    assert yaml.safe_load(again.folder.config_file.read_text())["model"] == pinned
    found = load_file(again.folder.model / "model.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert api.train(config, resume=True).results == again.results
    alone = {"model": ref, "model.tokenizer": ref, "output": config["output"]}
    assert api.train(overrides=alone, resume=True).results == again.results


def test_weights_that_changed_since_the_run_began_are_refused(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "start")
    config = settings(tmp_path, f"{tmp_path / 'start'}@local")
    stop(api.train(config).path)
    shutil.rmtree(tmp_path / "start")
    other_weights(model, tmp_path / "start")
    with pytest.raises(CheckpointError, match=r"was written with other model weights than there is now\."):
        api.train(config, resume=True)


def test_a_tokenizer_that_gives_other_tokens_than_its_model_was_saved_with_is_refused(tmp_path: Path) -> None:
    run = api.train(settings(tmp_path, "bert-tiny-random", max_steps=1))
    start = tmp_path / "start"
    shutil.copytree(run.folder.model, start)
    (start / "MANIFEST.json").unlink()
    text = (start / "tokenizer.json").read_text("utf-8")
    (start / "tokenizer.json").write_text(text.replace('"lowercase": true', '"lowercase": false'), "utf-8")
    config = settings(tmp_path, f"{start}@local")
    config["output"] = str(tmp_path / "next")
    with pytest.raises(Exception, match=r"gives other tokens than the one the model was trained with"):
        api.train(config)


def test_going_on_with_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError) as caught:
        api.train(overrides={"output": str(tmp_path / "none")}, resume=True)
    assert str(caught.value) == f"there is no run in {tmp_path / 'none'} to go on with. Name its folder: output=..."


def test_a_run_may_begin_with_the_command_that_would_go_on_with_it(tmp_path: Path) -> None:
    config = settings(tmp_path, "bert-tiny-random", max_steps=1)
    alone = {
        "app": "classification",
        "model": "bert-tiny-random",
        "data.train": config["data"]["train"],
        "train.max_steps": 1,
        "output": config["output"],
    }
    first = api.train(overrides=alone, resume=True)
    assert api.train(overrides=alone, resume=True).results == first.results


def test_a_model_with_its_config_is_enough_to_predict(tmp_path: Path) -> None:
    run = api.train(settings(tmp_path, "bert-tiny-random", max_steps=1))
    (tmp_path / "deployed").mkdir()
    shutil.copy(run.folder.config_file, tmp_path / "deployed")
    shutil.copytree(run.folder.model, tmp_path / "deployed" / "model")
    assert api.load(tmp_path / "deployed").predict(["good film"]) == run.predict(["good film"])


def test_a_family_that_nobody_provides_is_named_with_where_it_is_from(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "other")
    text = (tmp_path / "other" / "config.json").read_text()
    (tmp_path / "other" / "config.json").write_text(text.replace('"model_type": "bert"', '"model_type": "robertus"'))
    with pytest.raises(ConfigError) as caught:
        api.train(settings(tmp_path, f"{tmp_path / 'other'}@local"))
    assert str(caught.value) == (
        f"'{tmp_path / 'other'}@local' is of the family 'robertus' (model_type in its config.json), "
        f"which no installed plugin provides.\nInstalled families: {', '.join(registry('backbones').names())}."
    )


def test_of_two_families_of_one_name_a_preset_means_its_own_and_a_folder_is_told(model: Path, tmp_path: Path) -> None:
    fake_dist(
        tmp_path / "site", "acme", module_source=registering('register("bert", "acme.gone:Bert", summary="Bert")')
    )
    config = settings(tmp_path, "bert-tiny-random", max_steps=1)
    code = f"""
        import et_core as et
        config = {config!r}
        print(et.train(config).bundle.model.backbone.family)
        local = {{"model.ref": {f"{model}@local"!r}, "output": config["output"] + "2"}}
        try:
            et.train(config, local)
        except et.EtError as error:
            print(error)
        print(et.train(config, {{**local, "model.family": "et-bert/bert"}}).bundle.model.backbone.family)
    """
    done = run_python(textwrap.dedent(code), tmp_path / "site")
    first, *told, last = done.stdout.splitlines()
    assert (first, last) == ("et-bert/bert", "et-bert/bert"), done.stderr
    assert told[0].startswith("backbone 'bert' is registered by 2 installed plugins.")
    assert "  et-bert/bert   (et-bert " in "\n".join(told)


def test_a_finished_run_keeps_its_parts_whatever_is_installed_later(tmp_path: Path) -> None:
    rows = "".join(f"{word} {n}\t{label}\n" for n in range(4) for word, label in (("good", "yes"), ("bad", "no")))
    (tmp_path / "a.tsv").write_text(f"text\tlabel\n{rows}", "utf-8")
    config = {
        "app": "classification",
        "model": "bert-tiny-random",
        "data": {"train": str(tmp_path / "a.tsv")},
        "metrics": ["accuracy"],
        "train": {"max_steps": 1, "precision": "fp32"},
        "output": str(tmp_path / "run"),
    }
    before = api.train(config).predict(["good 1"])
    calls = {
        "apps": ("classification", ', replaces="et-appzoo"'),
        "backbones": ("bert", ""),
        "tokenizers": ("pretrained", ""),
        "strategies": ("single", ""),
        "metrics": ("accuracy", ""),
    }
    module = "".join(
        registering(f'register("{name}", "acme.gone:Gone", summary="Gone"{more})', kind=kind)
        for kind, (name, more) in calls.items()
    )
    site = tmp_path / "site"
    fake_dist(site, "acme", module_source=module)
    code = f"""
        import et_core as et
        run = et.load({str(tmp_path / "run")!r})
        print(run.predict(["good 1"])[0].probabilities)
        print(run.evaluate({str(tmp_path / "a.tsv")!r}).keys())
    """
    done = run_python(textwrap.dedent(code), site)
    assert done.stdout.splitlines() == [str(before[0].probabilities), "dict_keys(['accuracy', 'loss'])"], done.stderr
