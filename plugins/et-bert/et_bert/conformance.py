"""The suites of this package, for pytest and for ``et plugins check et-bert``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor
from transformers import BertConfig, BertModel

from et_core.interfaces import Backbone, Inputs
from et_core.testing import BackboneConformance, PluginConformance


class TestPlugin(PluginConformance):
    name = "et-bert"


class TestBert(BackboneConformance):
    name = "bert"
    config: ClassVar[Mapping[str, Any]] = {
        "num_layers": 2,
        "hidden_size": 32,
        "num_heads": 4,
        "intermediate_size": 48,
        "max_positions": 40,
        "marks": {"turn": 3},
    }

    def reference(self, backbone: Backbone) -> Callable[[Inputs], Mapping[str, Tensor]]:
        """transformers' BertModel with its plain attention, from the saved config and weights; marks join its words."""
        config = BertConfig.from_pretrained(str(self.saved(backbone)), attn_implementation="eager")
        peer = BertModel(config).eval()
        peer.load_state_dict(backbone.layout({}))

        def run(inputs: Inputs) -> Mapping[str, Tensor]:
            (text,) = inputs.texts
            embedded = peer.embeddings.word_embeddings(text.ids)
            for name, values in inputs.marks.items():
                embedded = embedded + backbone.get_parameter(f"marks.{name}.weight")[values]
            output = peer(inputs_embeds=embedded, attention_mask=text.mask, token_type_ids=text.segments)
            return {"tokens": output.last_hidden_state, "pooled": output.pooler_output}

        return run
