"""What et-bert registers. Imports nothing but the hook marker until a name is used."""

import json
from importlib import resources

from et_core.hooks import Register, hookimpl

ET_API = 1
ET_CONFORMANCE = "et_bert.conformance"


@hookimpl
def et_register_backbones(register: Register) -> None:
    register("bert", "et_bert.encoder:BertBackbone", summary="Transformer encoder, Devlin et al. 2018")


@hookimpl
def et_register_presets(register: Register) -> None:
    rows = json.loads(resources.files("et_bert").joinpath("presets.json").read_text("utf-8"))
    for name, row in rows.items():
        aliases = tuple(row.get("aliases", ()))
        register(name, f"et_bert.presets:PRESETS[{name}]", summary=row["summary"], aliases=aliases)
