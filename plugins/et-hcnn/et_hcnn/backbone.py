from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from et_core.errors import ConfigError
from et_core.interfaces import Artifact, Backbone, Features, Head, Inputs, Text, Tokenizer, check_stored, load_weights
from et_hcnn.heads import LinearHead
from et_hcnn.layers import Words, relu_layer
from et_hcnn.vectors import load_vectors

Size = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]

_VOCABULARY, _PADDING = "vocab_size", "pad_token_id"
_FREE_WITH_WEIGHTS = frozenset({"vectors", "freeze_vectors", "dropout", "marks"})
_FIRST_WORDS = 0.25
"""Fresh word vectors lie between minus this and this, as in Kim 2014."""


class WordBackbone(Backbone):
    """A network over a table of word vectors, with fresh weights or those of a model folder that et wrote."""

    provides: ClassVar[frozenset[str]] = frozenset({"pooled"})
    tokenizer: ClassVar[str] = "et-hcnn/words"
    model_type: ClassVar[str]
    """The name that it is registered under."""

    defaults: ClassVar[Mapping[str, Any]] = {"embedding_size": 300, "freeze_vectors": False}
    """The options of fresh weights that a user leaves out."""

    @dataclass
    class Options:
        """The table of word vectors: *embedding_size* is the width of one, 300 for fresh weights or that of *vectors*.

        *vectors* is a file that fresh weights begin with: one word and its numbers a line, as GloVe and word2vec write
        them, or NAME.npy [V, D] beside NAME.vocab or NAME.txt with a word a line. *freeze_vectors* keeps them as they
        are. None keeps what a model has that is already trained.
        """

        embedding_size: Size | None = None
        vectors: str | None = None
        freeze_vectors: bool | None = None

    def __init__(self, sizes: Any, *, vocab_size: int, pad_id: int) -> None:
        """*sizes* are options without a None where ``defaults`` has a value."""
        super().__init__()
        self.sizes = sizes
        self._pad_id = pad_id
        self.words = nn.Embedding(vocab_size, sizes.embedding_size, padding_idx=pad_id)
        nn.init.uniform_(self.words.weight, -_FIRST_WORDS, _FIRST_WORDS)
        self.words.weight.requires_grad_(not sizes.freeze_vectors)
        self._clear_padding()

    @classmethod
    def build(cls, options: Any, *, tokenizer: Tokenizer, artifact: Artifact | None = None) -> Self:
        stored = dict(artifact.config) if artifact else {}
        # A config with a vocabulary is a saved model's, whose table comes with its weights.
        is_fresh = _VOCABULARY not in stored
        table = _read_vectors(options, tokenizer) if is_fresh else None
        if not is_fresh:
            _check_vocabulary(stored, tokenizer)
        if artifact and artifact.weights:
            _check_vectors(options, artifact)
            check_stored(options, artifact, free=_FREE_WITH_WEIGHTS)
        backbone = cls(cls._complete(options, stored, table), vocab_size=tokenizer.vocab_size, pad_id=tokenizer.pad_id)
        if table is not None:
            backbone.words.weight.data.copy_(table)
            backbone._clear_padding()
        if artifact and artifact.weights:
            load_weights(backbone, artifact)
        return backbone

    def blocks(self) -> list[nn.Module]:
        return []

    def token_table(self) -> nn.Embedding:
        return self.words

    def native_head(self, task: str, **spec: Any) -> Head | None:
        return LinearHead(hidden_size=self.hidden_size, **spec) if task == "sequence-classification" else None

    def config(self, heads: Mapping[str, Head]) -> dict[str, Any]:
        sizes = dataclasses.asdict(self.sizes)
        del sizes["vectors"]
        return {
            "model_type": self.model_type,
            _VOCABULARY: self.words.num_embeddings,
            _PADDING: self._pad_id,
            **sizes,
        }

    def look_up(self, *texts: Text) -> list[Words]:
        """The words of each text, over one table."""
        ids = [text.ids.masked_fill(~text.mask, self._pad_id).flatten() for text in texts]
        joined = torch.cat((*ids, ids[0].new_tensor([self._pad_id])))
        if joined.device.type == "cpu":
            joined, places = joined.unique(return_inverse=True)
            padding = int(places[-1])
        else:  # how many are distinct would have to be waited for
            padding = len(joined) - 1
            places = torch.arange(len(joined), device=joined.device)
        table = self.words(joined)
        parts = places[:-1].split([len(part) for part in ids])
        return [
            Words(table, part.view_as(text.ids), text.mask, padding) for part, text in zip(parts, texts, strict=True)
        ]

    @classmethod
    def _complete(cls, options: Any, stored: Mapping[str, Any], table: Tensor | None) -> Any:
        """*options* with the stored values, and for what nobody says the defaults."""
        read = {} if table is None else {"embedding_size": table.shape[1]}
        known = {**cls.defaults, **read, **stored}
        given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        return type(options)(**{name: known.get(name) if value is None else value for name, value in given.items()})

    def _clear_padding(self) -> None:
        with torch.no_grad():
            self.words.weight[self._pad_id].zero_()


class MatchingBackbone(WordBackbone):
    """A network over two texts. *pooled* is what its last hidden layer makes of the pair."""

    accepts: ClassVar[frozenset[str]] = frozenset({"texts"})
    defaults: ClassVar[Mapping[str, Any]] = {**WordBackbone.defaults, "hidden_size": 200, "dropout": 0.2}

    @dataclass
    class Options(WordBackbone.Options):
        """*hidden_size* is the width of the last hidden layer, *dropout* the rate before it."""

        hidden_size: Size | None = None
        dropout: Rate | None = None

    def __init__(self, sizes: Any, *, vocab_size: int, pad_id: int) -> None:
        super().__init__(sizes, vocab_size=vocab_size, pad_id=pad_id)
        self.encoder: Any = self.make_encoder(sizes)
        self.hidden_size = self.encoder.size

    @classmethod
    @abstractmethod
    def make_encoder(cls, sizes: Any) -> nn.Module:
        """The network from word vectors to the last hidden layer: a PairEncoder, or several SideBySide."""

    def forward(self, inputs: Inputs, *, want: frozenset[str] = frozenset()) -> Features:
        first, second = two_texts(inputs, self.model_type)
        return Features(pooled=self.encoder(*self.look_up(first, second)))

    def blocks(self) -> list[nn.Module]:
        return [part.network for part in self.encoder.modules() if isinstance(part, PairEncoder)]


class PairEncoder(nn.Module):
    """A *network* that compares two texts, and a hidden layer on top of it."""

    def __init__(self, network: nn.Module, features: int, *, hidden_size: int, dropout: float) -> None:
        """*features* is the width of what *network* gives."""
        super().__init__()
        self.size = hidden_size
        self.network = network
        self.dropout = nn.Dropout(dropout)
        self.hidden = relu_layer(features, hidden_size)

    def forward(self, first: Words, second: Words) -> Tensor:
        """[B, H]; the texts may differ in width."""
        features = self.network(first, second)
        return functional.relu(self.hidden(self.dropout(features)))


class SideBySide(nn.Module):
    """What several encoders make of a pair, joined."""

    def __init__(self, *encoders: nn.Module) -> None:
        super().__init__()
        self.encoders = nn.ModuleList(encoders)
        self.size = sum(encoder.size for encoder in encoders)  # type: ignore[misc]

    def forward(self, first: Words, second: Words) -> Tensor:
        return torch.cat([encoder(first, second) for encoder in self.encoders], -1)


def two_texts(inputs: Inputs, model_type: str) -> tuple[Text, Text]:
    """The two texts of *inputs*; ConfigError where there is one."""
    if len(inputs.texts) != 2:
        raise ConfigError(
            f"{model_type} compares two texts, and these rows have {len(inputs.texts)}. Name the column of the second "
            "one (data.columns.text_pair), or take a model for single texts, such as textcnn@init."
        )
    return inputs.texts[0], inputs.texts[1]


def _read_vectors(options: Any, tokenizer: Tokenizer) -> Tensor | None:
    if options.vectors is not None:
        return load_vectors(options.vectors, tokenizer, size=options.embedding_size)
    if options.freeze_vectors:
        raise ConfigError(
            "model.freeze_vectors keeps word vectors as they are, but model.vectors names no file of any: "
            "random ones would never learn."
        )
    return None


def _check_vocabulary(stored: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    if tokenizer.vocab_size != stored[_VOCABULARY]:
        raise ConfigError(
            f"the tokenizer has {tokenizer.vocab_size} words, the model {stored[_VOCABULARY]}: "
            "they do not belong together. Leave out model.tokenizer."
        )


def _check_vectors(options: Any, artifact: Artifact) -> None:
    if options.vectors is not None:
        raise ConfigError(
            f"model.vectors is {options.vectors}, but {artifact.ref} has word vectors of its own. Leave it out, or "
            f"start from fresh weights with {artifact.config['model_type']}@init."
        )
