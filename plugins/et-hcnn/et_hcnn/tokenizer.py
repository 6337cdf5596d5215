from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordLevelTrainer

from et_core.data import PretrainedTokenizer
from et_core.errors import ArtifactError
from et_core.interfaces import Encoded, Segmenter
from et_core.registry import registry
from et_hcnn.segmenters import PatternSegmenter, SegmenterName

_PAD, _UNKNOWN, _SEPARATOR = "[PAD]", "[UNK]", "[SEP]"
_SPECIAL = {"pad_token": _PAD, "unk_token": _UNKNOWN, "sep_token": _SEPARATOR}
_SEGMENTER = "et_segmenter"
"""The key of tokenizer_config.json that names the segmenter."""

# What segmenters, and versions of them, disagree about.
_PROBE = "Déjà vu: 3.5 co-operators don't, it's U.S. 2,000 南京市长江大桥 こんにちは \U0001f469\u200d\U0001f467 ÄÖÜß"
_KNOWN = 200
_UNLIMITED = 1 << 20


class WordTokenizer(PretrainedTokenizer):
    """Whole words by a vocabulary that was learned from data; all others are one unknown word.

    A text has no tokens around it, and an empty one is the unknown word, so that none is without tokens. A pair is
    joined by a separator. Where the segmenter is a pattern, tokenizer.json says all of it and the Rust library does
    the work; any other is called from here for each text, and named in tokenizer_config.json.
    """

    default_vocab_size: ClassVar[int] = 30000

    def __init__(self, backend: Backend, settings: dict[str, Any], segmenter: Segmenter | None = None) -> None:
        """*segmenter* is None where the backend splits texts itself."""
        super().__init__(backend, settings)
        self._segmenter = segmenter

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._backend, self._settings, self._segmenter)

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """The id of each word, special tokens included."""
        found: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        return found

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_length: int,
        stride: int = 0,
        truncation: str = "right",
        offsets: bool = False,
    ) -> Encoded:
        settings = {"max_length": max_length, "stride": stride, "truncation": truncation, "offsets": offsets}
        if self._segmenter is None:
            encoded = super().encode(texts, pairs, **settings)
        else:
            encoded = self._encode_words(self._segmenter, texts, pairs, settings)
        unknown = self.special_ids.get("unk", 0)
        for place, ids in enumerate(encoded.ids):
            if not ids:
                encoded.ids[place], encoded.segments[place] = [unknown], [0]
                if offsets:
                    encoded.offsets[place], encoded.words[place] = [(0, 0)], [None]
        return encoded

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        left_out = set(self.special_ids.values())
        return super().decode([[token for token in row if token not in left_out] for row in ids])

    def fingerprint(self) -> str:
        vocabulary = sorted(self.vocabulary.items(), key=lambda item: item[1])
        known = " ".join(word for word, _ in vocabulary[:_KNOWN])
        encoded = self.encode([_PROBE, known, known.upper()], max_length=_UNLIMITED, offsets=True)
        joined = self.encode([_PROBE], [known], max_length=_UNLIMITED)
        parts = [vocabulary, self.pad_id, encoded.ids, encoded.offsets, joined.ids, joined.segments]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @classmethod
    def load(cls, path: Path) -> WordTokenizer:
        loaded: WordTokenizer = super().load(path)
        if loaded._backend.pre_tokenizer is None:
            name = loaded._settings.get(_SEGMENTER)
            if name is None:
                raise ArtifactError(f"{path} does not say how a text is split into words: {_SEGMENTER} is missing.")
            loaded._segmenter = registry("segmenters").create(name)
        return loaded

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        *,
        vocab_size: Annotated[int, Field(gt=len(_SPECIAL))],
        segmenter: SegmenterName = "words",
        lowercase: bool = True,
        min_frequency: Annotated[int, Field(gt=0)] = 1,
    ) -> WordTokenizer:
        """Learn the *vocab_size* most frequent words, the same for the same texts.

        *segmenter* is a registered one. Words that occur less than *min_frequency* times are unknown ones.
        """
        entry = registry("segmenters").find(segmenter)
        found = registry("segmenters").create(entry.qualified)
        in_rust = isinstance(found, PatternSegmenter)
        learner = Backend(WordLevel(unk_token=_UNKNOWN))
        if lowercase:
            learner.normalizer = Lowercase()
        if in_rust:
            learner.pre_tokenizer = found.splitter
        trainer = WordLevelTrainer(
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            show_progress=False,
            special_tokens=list(_SPECIAL.values()),
        )
        learner.train_from_iterator(texts if in_rust else _words_of(texts, found), trainer)
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", **_SPECIAL, _SEGMENTER: entry.qualified}
        return cls(_finished(learner), settings, None if in_rust else found)

    def _encode_words(
        self, segmenter: Segmenter, texts: Sequence[str], pairs: Sequence[str] | None, settings: Mapping[str, Any]
    ) -> Encoded:
        sides = [texts] if pairs is None else [texts, pairs]
        spans = [[segmenter.spans(text) for text in side] for side in sides]
        words = [
            [[text[start:end] for start, end in found] for text, found in zip(side, places, strict=True)]
            for side, places in zip(sides, spans, strict=True)
        ]
        encoded = self._encode(words[0], None if pairs is None else words[1], **settings, split=True)
        for window, source in enumerate(encoded.sources if settings["offsets"] else ()):
            encoded.offsets[window] = [
                (0, 0) if word is None else spans[segment][source][word]
                for word, segment in zip(encoded.words[window], encoded.segments[window], strict=True)
            ]
        return encoded


def _words_of(texts: Iterable[str], segmenter: Segmenter) -> Iterator[list[str]]:
    """The words of each text, but for those that look like a special token."""
    special = set(_SPECIAL.values())
    for text in texts:
        words = (text[start:end] for start, end in segmenter.spans(text))
        yield [word for word in words if word not in special]


def _finished(learner: Backend) -> Backend:
    """A backend with what *learner* knows, to which "[PAD]" in a text is three signs and no padding."""
    vocabulary = learner.get_vocab()
    backend = Backend(WordLevel(vocabulary, unk_token=_UNKNOWN))
    if learner.normalizer is not None:
        backend.normalizer = learner.normalizer
    if learner.pre_tokenizer is not None:
        backend.pre_tokenizer = learner.pre_tokenizer
    backend.post_processor = TemplateProcessing(
        single="$A:0", pair=f"$A:0 {_SEPARATOR}:0 $B:1", special_tokens=[(_SEPARATOR, vocabulary[_SEPARATOR])]
    )
    return backend
