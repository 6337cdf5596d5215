from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from et_core.errors import ArtifactError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "spm.model",
    "sentencepiece.model",
    "sentencepiece.bpe.model",
)
PATTERNS = (
    CONFIG,
    WEIGHTS,
    "model-*.safetensors",
    INDEX,
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "README.md",
    *TOKENIZER_FILES[1:],
)
"""What a model consists of, and all that is fetched of a repository: never a pickle, never code."""

LAYOUT = f"{{{CONFIG},{WEIGHTS},tokenizer.json}}"

_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_OTHER_SUFFIXES = (".safetensors", ".h5", ".msgpack")
_LFS_POINTER = b"version https://git-lfs"
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class FolderFiles:
    """The files of one model folder, found and checked; nothing of them is loaded."""

    config: Mapping[str, Any]
    weights: tuple[Path, ...]
    tokenizer: Path | None
    license: str | None

    @property
    def family(self) -> str:
        return str(self.config["model_type"])


def read_folder(folder: Path, *, label: str) -> FolderFiles:
    """Find and check the model in *folder*, laid out as transformers writes it.

    *label* opens every message; ArtifactError says which file is missing, broken or unsafe. The headers of the weights
    are read, so that a truncated file is found before anything is built.
    """
    config = read_config(folder, label=label)
    weights = _find_weights(folder, config, label=label)
    for path in weights:
        _check_header(path, label=label)
    has_tokenizer = any((folder / name).is_file() for name in TOKENIZER_FILES)
    return FolderFiles(config, weights, folder if has_tokenizer else None, _read_license(folder))


def read_config(folder: Path, *, label: str) -> dict[str, Any]:
    """The content of config.json, which names its family."""
    path = folder / CONFIG
    if not path.is_file():
        raise ArtifactError(
            f"{label}: there is no {CONFIG} in {folder}.\n"
            f"A model folder holds {CONFIG}, {WEIGHTS} and the tokenizer's files."
        )
    config = _read_json(path, label=label)
    if not config.get("model_type"):
        raise ArtifactError(
            f"{label}: {path} has no 'model_type', so the family is unknown. "
            'Add the name of its family to it: "model_type": "FAMILY" (et list backbones).'
        )
    return config


def unsafe_files(names: list[str]) -> list[str]:
    """Those *names* that hold weights as a pickle."""
    return sorted(name for name in names if "/" not in name and name.endswith(_PICKLE_SUFFIXES) and _is_weights(name))


def pickle_message(label: str, names: list[str], *, load: str, config: Mapping[str, Any], save: str, then: str) -> str:
    """Refuse weights that are no safetensors, with the command that converts them.

    *load* is what ``from_pretrained`` is given, *save* the folder to write, *then* what to type afterwards.
    """
    architectures = config.get("architectures") or ["AutoModel"]
    # The class that wrote the weights, where it is named: AutoModel would drop the pre-training head.
    model = architectures[0] if str(architectures[0]).isidentifier() else "AutoModel"
    return (
        f"{label} has no safetensors weights, only {', '.join(names)}.\n"
        "Such a file can run code when it is loaded, so weights are safetensors only. "
        "If you trust it, convert it once with transformers:\n"
        f'  python -c "from transformers import {model}, AutoTokenizer; '
        f"{model}.from_pretrained({load}, use_safetensors=False).save_pretrained({save!r}); "
        f'AutoTokenizer.from_pretrained({load}).save_pretrained({save!r})"\n'
        f"{then}"
    )


def verify_sha256(folder: Path, sha256: Mapping[str, str], *, label: str, record: Path) -> None:
    """Check the files of *folder* against *sha256*, once: what was checked is noted in the file *record*.

    A file that changed since is checked again. ArtifactError names the first file that differs or is missing.
    """
    known = _read_json_or_empty(record)
    seen: dict[str, list[Any]] = {}
    for name, expected in sha256.items():
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{label}: {name} is pinned but missing in {folder}.")
        stat = path.stat()
        seen[name] = [expected, stat.st_size, stat.st_mtime_ns]
        if known.get(name) != seen[name]:
            _check_sha256(path, expected, label=label)
    if known != seen:
        # A cache that cannot be written costs a second check, nothing else.
        with suppress(OSError):
            record.parent.mkdir(parents=True, exist_ok=True)
            record.write_text(json.dumps(seen), "utf-8")


def _check_sha256(path: Path, expected: str, *, label: str) -> None:
    with path.open("rb") as file:
        found = file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise ArtifactError(
            f"{label}: {path.name} is not the file that the preset pins.\n"
            f"  pinned sha256: {expected}\n"
            f"  found sha256:  {found}\n"
            f"Delete {path.resolve()} and try again; if it happens twice, do not use the file."
        )


def _read_json(path: Path, *, label: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except json.JSONDecodeError as error:
        raise ArtifactError(
            f"{label}: {path} is not valid JSON: {error.msg}, line {error.lineno} column {error.colno}."
        ) from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{label}: {path} is not valid JSON: it is not UTF-8 text.") from error
    if not isinstance(found, dict):
        raise ArtifactError(f"{label}: {path} holds {type(found).__name__}, not a JSON object.")
    return found


def _read_json_or_empty(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _find_weights(folder: Path, config: Mapping[str, Any], *, label: str) -> tuple[Path, ...]:
    # The single file first, as transformers looks for them.
    if (folder / WEIGHTS).is_file():
        return (folder / WEIGHTS,)
    if (folder / INDEX).is_file():
        return _find_shards(folder, label=label)
    names = sorted(path.name for path in folder.iterdir())
    unsafe = unsafe_files(names)
    if unsafe:
        save = f"{folder.name}-safetensors"
        then = f"Then write './{save}@local'."
        raise ArtifactError(pickle_message(label, unsafe, load=repr(str(folder)), config=config, save=save, then=then))
    others = [name for name in names if name.endswith(_OTHER_SUFFIXES)]
    hint = f" It holds {', '.join(others)}; whole models are saved as {WEIGHTS}." if others else ""
    raise ArtifactError(f"{label}: there are no weights in {folder}: neither {WEIGHTS} nor {INDEX}.{hint}")


def _find_shards(folder: Path, *, label: str) -> tuple[Path, ...]:
    table = _read_json(folder / INDEX, label=label).get("weight_map")
    names = sorted({str(name) for name in table.values()}) if isinstance(table, dict) else []
    if not names:
        raise ArtifactError(f"{label}: {folder / INDEX} lists no files under 'weight_map'.")
    for name in names:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ArtifactError(f"{label}: {folder / INDEX} names {name!r}, which is not a safetensors file beside it.")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ArtifactError(
            f"{label}: {len(missing)} of {len(names)} weight files are missing in {folder}: {', '.join(missing)}."
        )
    return tuple(folder / name for name in names)


def _check_header(path: Path, *, label: str) -> None:
    with path.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
    if start == _LFS_POINTER:
        raise ArtifactError(
            f"{label}: {path} is a Git LFS pointer, not the weights. Run 'git lfs pull' in the folder it was cloned to."
        )
    try:
        # "np" opens without torch; only the header is read.
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        raise ArtifactError(
            f"{label}: {path} ({path.stat().st_size:,} bytes) is truncated or not a safetensors file: {error}.\n"
            "Copy or download it again."
        ) from error


def _read_license(folder: Path) -> str | None:
    try:
        match = _FRONT_MATTER.match((folder / "README.md").read_text("utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    if match is None:
        return None
    try:
        card = yaml.safe_load(match[1])
    except yaml.YAMLError:
        return None
    found = card.get("license") if isinstance(card, dict) else None
    return found if isinstance(found, str) else None


def _is_weights(name: str) -> bool:
    # training_args.bin, optimizer.pt and rng_state.pth lie beside weights and are none.
    return not name.startswith(("training_args", "optimizer", "scheduler", "rng_state", "scaler"))
