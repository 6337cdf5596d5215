from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel
from transformers.utils import logging as transformers_logging

from et_bert.attention import NAME as ATTENTION
from et_bert.heads import NATIVE_HEADS
from et_core.errors import ArtifactError, ComponentError, ConfigError
from et_core.interfaces import Artifact, Backbone, Features, Head, Inputs, Tokenizer

log = logging.getLogger("et")

_TRANSFORMERS_NAMES = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
    "max_positions": "max_position_embeddings",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
}
_FREE_WITH_WEIGHTS = frozenset({"dropout", "attention_dropout", "num_layers"})


class BertBackbone(Backbone):
    """BERT (Devlin et al. 2018) on transformers' BertModel, loaded and saved in its layout."""

    accepts: ClassVar[frozenset[str]] = frozenset({"text", "marks"})
    provides: ClassVar[frozenset[str]] = frozenset({"tokens", "pooled", "layers", "attentions", "queries-keys-values"})

    @dataclass
    class Options:
        """Sizes and rates; None keeps the checkpoint's value, or BERT-base's for fresh weights.

        With pre-trained weights ``num_layers`` may be lower than the checkpoint's: the lowest layers are kept. *marks*
        are per-token side inputs by name, with the number of values each can take.
        """

        num_layers: int | None = None
        hidden_size: int | None = None
        num_heads: int | None = None
        intermediate_size: int | None = None
        vocab_size: int | None = None
        max_positions: int | None = None
        activation: str | None = None
        dropout: float | None = None
        attention_dropout: float | None = None
        marks: dict[str, int] = field(default_factory=dict)

    _lacks_pooler = False

    def __init__(self, model: BertModel, *, marks: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.model = model
        self.hidden_size = int(model.config.hidden_size)
        self.max_length = int(model.config.max_position_embeddings)
        # Zero at first, so that a mark changes nothing until it has learned something.
        self.marks = nn.ModuleDict({name: nn.Embedding(size, self.hidden_size) for name, size in (marks or {}).items()})
        for table in self.marks.values():
            nn.init.zeros_(table.weight)  # type: ignore[arg-type]

    @classmethod
    def build(cls, options: Options, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> BertBackbone:
        values = {theirs: getattr(options, ours) for ours, theirs in _TRANSFORMERS_NAMES.items()}
        chosen = {name: value for name, value in values.items() if value is not None}
        given = dict(artifact.config) if artifact else {}
        _check_sizes(options, given, bool(artifact and artifact.weights))
        if "vocab_size" not in {**given, **chosen}:
            chosen["vocab_size"] = tokenizer.vocab_size
        config = BertConfig(**{"pad_token_id": tokenizer.pad_id, **given, **chosen}, attn_implementation=ATTENTION)
        if tokenizer.vocab_size > config.vocab_size:
            raise ConfigError(
                f"the tokenizer has {tokenizer.vocab_size} pieces, the model {config.vocab_size} embeddings: "
                "they do not belong together. Leave out model.vocab_size and model.tokenizer, or set both."
            )
        folder = artifact.folder if artifact else None
        model, has_pooler = (_fresh(config), True) if folder is None else _load(folder, config)
        backbone = cls(model, marks=options.marks)
        backbone._lacks_pooler = not has_pooler
        return backbone

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        (text,) = inputs.texts
        embedded = self._embed(text.ids, inputs.marks) if inputs.marks else None
        # Without padding no mask is needed, and attention has a faster path. On a GPU the question itself would wait.
        unpadded = text.mask.device.type == "cpu" and bool(text.mask.all())
        with _Recorder(self.model, want) as recorder:
            output = self.model(
                input_ids=None if embedded is not None else text.ids,
                inputs_embeds=embedded,
                attention_mask=None if unpadded else text.mask,
                token_type_ids=text.segments,
                output_hidden_states="layers" in want,
            )
        extra = recorder.extra(text.mask)
        if "layers" in want:
            extra["layers"] = output.hidden_states
        return Features(output.last_hidden_state, text.mask, output.pooler_output, extra)

    def blocks(self) -> list[nn.Module]:
        return list(self.model.encoder.layer)

    def token_table(self) -> nn.Embedding:
        table: nn.Embedding = self.model.embeddings.word_embeddings
        return table

    def restrict(self, needs: frozenset[str]) -> None:
        if "pooled" not in needs:
            self.model.pooler = None
        elif self._lacks_pooler:
            log.warning("the checkpoint has no pooler: that layer starts from random weights")

    def native_head(self, task: str, **spec: Any) -> Head | None:
        native = NATIVE_HEADS.get(task)
        return None if native is None else native(self.model.config, **spec)

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        config: dict[str, Any] = self.model.config.to_dict()
        config["architectures"] = ["BertModel"]
        native = _native(heads)
        if native is not None:
            config.update(native.config_entries())
        return config

    def layout(self, heads: Mapping[str, Head]) -> dict[str, Tensor]:
        native = _native(heads)
        prefix = "" if native is None else "bert."
        tensors = {f"{prefix}{name}": tensor for name, tensor in self.model.state_dict(keep_vars=True).items()}
        if native is not None:
            tensors.update(native.state_dict(keep_vars=True))
        return tensors

    def _embed(self, ids: Tensor, marks: Mapping[str, Tensor]) -> Tensor:
        if unknown := sorted(marks.keys() - set(self.marks)):
            raise ComponentError(
                f"the app gives each token the mark {unknown[0]!r}, for which there is no table: "
                "App.marks has to name it, with the number of values it takes."
            )
        embedded: Tensor = self.model.embeddings.word_embeddings(ids)
        for name, values in marks.items():
            embedded = embedded + self.marks[name](values)
        return embedded


def _native(heads: Mapping[str, Head]) -> Any:
    return next((head for head in heads.values() if isinstance(head, tuple(NATIVE_HEADS.values()))), None)


def _check_sizes(options: BertBackbone.Options, given: Mapping[str, Any], has_weights: bool) -> None:
    if not has_weights:
        return
    config = BertConfig(**given)  # a config.json may leave out what is the default
    for ours, theirs in _TRANSFORMERS_NAMES.items():
        value, stored = getattr(options, ours), getattr(config, theirs)
        if value is None or value == stored:
            continue
        if ours not in _FREE_WITH_WEIGHTS or (ours == "num_layers" and value > stored):
            raise ConfigError(
                f"model.{ours} is {value}, but the weights have {stored}. "
                "Leave it out, or start from fresh weights with bert@init."
            )


def _fresh(config: BertConfig) -> BertModel:
    if config.hidden_size % config.num_attention_heads:
        raise ConfigError(
            f"model.hidden_size is {config.hidden_size}, which {config.num_attention_heads} heads cannot share evenly. "
            "Set model.num_heads to a number that divides it."
        )
    return BertModel(config)


def _load(folder: Path, config: BertConfig) -> tuple[BertModel, bool]:
    """The model in *folder*, and whether its pooler was there: checkpoints of pre-training without NSP have none."""
    quiet = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        model, report = BertModel.from_pretrained(
            str(folder),
            config=config,
            dtype=torch.float32,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # reported below, in words
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"the weights in {folder} do not load as BERT: {str(error).splitlines()[0]}") from error
    finally:
        transformers_logging.set_verbosity(quiet)
        transformers_logging.enable_progress_bar()
    missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
    wrong = sorted(str(item) for item in report["mismatched_keys"])
    if missing or wrong:
        examples = ", ".join((missing or wrong)[:3])
        raise ArtifactError(
            f"the weights in {folder} are not those of a BERT of this config: {len(missing)} tensors are missing, "
            f"{len(wrong)} have another shape (such as {examples}). "
            "Check that config.json and the weights belong together."
        )
    return model.float(), not any(name.startswith("pooler.") for name in report["missing_keys"])


class _Recorder:
    """Collects queries, keys and values with hooks: transformers gives no attention maps under fused attention."""

    def __init__(self, model: BertModel, want: frozenset[str]) -> None:
        self._want = want & {"attentions", "queries-keys-values"}
        self._layers = [layer.attention.self for layer in model.encoder.layer] if self._want else []
        self._seen: list[list[Tensor]] = [[] for _ in self._layers]
        self._handles: list[Any] = []

    def __enter__(self) -> _Recorder:
        for attention, seen in zip(self._layers, self._seen, strict=True):
            for projection in (attention.query, attention.key, attention.value):
                self._handles.append(projection.register_forward_hook(_collect(seen, attention.num_attention_heads)))
        return self

    def __exit__(self, *exception: object) -> None:
        for handle in self._handles:
            handle.remove()

    def extra(self, mask: Tensor) -> dict[str, object]:
        if not self._want:
            return {}
        triples = tuple(tuple(seen) for seen in self._seen)
        extra: dict[str, object] = {}
        if "queries-keys-values" in self._want:
            extra["queries-keys-values"] = triples
        if "attentions" in self._want:
            extra["attentions"] = tuple(_attention(query, key, mask) for query, key, _ in triples)
        return extra


def _collect(seen: list[Tensor], heads: int) -> Callable[[nn.Module, Any, Tensor], None]:
    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen.append(output.unflatten(-1, (heads, -1)).transpose(1, 2))

    return hook


def _attention(query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    return scores.masked_fill(~mask[:, None, None, :], float("-inf")).softmax(-1)
