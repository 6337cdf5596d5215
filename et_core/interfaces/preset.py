from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Provider:
    """One place that a preset's files can come from; *kind* says which of the other fields count.

    "package": the folder *folder* inside the installed module *module*; *install* says how to get it.
    "hub": the repository *repo* at *commit* (None: not pinned yet), its files checked against *sha256*.
    "fresh": random weights of the preset's config, with the tokenizer in *folder* inside *module*.
    """

    kind: str
    module: str = ""
    folder: str = ""
    install: str = ""
    repo: str = ""
    commit: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """A named checkpoint of the zoo."""

    name: str
    family: str
    summary: str
    license: str
    parameters: int
    """How many, embeddings included."""

    languages: tuple[str, ...]
    providers: tuple[Provider, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    """Sizes, for the provider "fresh"."""

    aliases: tuple[str, ...] = ()
    defined_in: str = ""
    """The ``package/file`` that ``et zoo pin`` edits."""

    @property
    def pinned(self) -> bool:
        return all(provider.commit for provider in self.providers if provider.kind == "hub")


def read_presets(package: str, name: str = "presets.json") -> dict[str, Preset]:
    """Read the presets that *package* ships as a data file, keyed by preset name."""
    rows = json.loads(resources.files(package).joinpath(name).read_text("utf-8"))
    return {
        key: Preset(
            name=key,
            defined_in=f"{package}/{name}",
            providers=tuple(Provider(**provider) for provider in row["providers"]),
            languages=tuple(row["languages"]),
            aliases=tuple(row.get("aliases", ())),
            **{field: row[field] for field in ("family", "summary", "license", "parameters")},
            config=row.get("config", {}),
        )
        for key, row in rows.items()
    }
