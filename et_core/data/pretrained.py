from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tokenizers import Encoding
from tokenizers import Tokenizer as Backend
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing
from tokenizers.trainers import WordPieceTrainer

from et_core.errors import ArtifactError, ConfigError, DataError
from et_core.interfaces import Encoded, Tokenizer

_SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
_ROLES = ("unk", "cls", "sep", "mask", "bos", "eos")
_ALPHABET = 1000
_PAD_TOKENS = ("[PAD]", "<pad>")

# Case, accents, digits, rare words, other scripts and an emoji: what tokenizers of different versions disagree about.
_PROBE = "Déjà vu: 3.5 naïve co-operators didn't re-tokenise https://a.b/c?d=1 \u4f60\u597d\u4e16\u754c \U0001f600 ÄÖÜß"


class PretrainedTokenizer(Tokenizer):
    """A tokenizer of the tokenizers library, as it lies beside a checkpoint in transformers' layout."""

    trainable: ClassVar[bool] = True

    def __init__(self, backend: Backend, settings: dict[str, Any] | None = None) -> None:
        # Files often carry the truncation and padding of whoever saved them, which would apply silently.
        backend.no_truncation()
        backend.no_padding()
        self._backend = backend
        self._settings = settings or {}
        self._truncation: tuple[int, int, str, str] | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._backend, self._settings)

    @property
    def vocab_size(self) -> int:
        return int(self._backend.get_vocab_size(with_added_tokens=True))

    @property
    def pad_id(self) -> int:
        named = self._settings.get("pad_token")
        named = named.get("content") if isinstance(named, dict) else named
        for token in (named, *_PAD_TOKENS):
            if token is not None and (found := self._backend.token_to_id(token)) is not None:
                return int(found)
        return 0

    @property
    def special_ids(self) -> Mapping[str, int]:
        named = {role: self._settings.get(f"{role}_token") for role in _ROLES}
        tokens = {role: token.get("content") if isinstance(token, dict) else token for role, token in named.items()}
        ids = {role: self._backend.token_to_id(token) for role, token in tokens.items() if token is not None}
        return {"pad": self.pad_id, **{role: found for role, found in ids.items() if found is not None}}

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
        """As the interface says; with *stride* and *pairs* it is the pair that goes on in further windows."""
        return self._encode(texts, pairs, max_length=max_length, stride=stride, truncation=truncation, offsets=offsets)

    def _encode(
        self,
        texts: Sequence[Any],
        pairs: Sequence[Any] | None,
        *,
        max_length: int,
        stride: int,
        truncation: str,
        offsets: bool,
        split: bool = False,
    ) -> Encoded:
        """As ``encode``; where they are *split*, texts and pairs are lists of words, and offsets count from a word."""
        strategy = "only_second" if stride and pairs is not None else "longest_first"
        inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        run = self._backend.encode_batch if offsets else self._backend.encode_batch_fast
        encoded = Encoded([], [], [])
        with self._lock:  # the backend holds the length itself, and another thread may set its own
            self._set_truncation(max_length, stride, strategy, truncation)
            try:
                encodings = run(inputs, is_pretokenized=split)
            except Exception as error:  # the library raises no class of its own
                raise DataError(f"a text cannot be encoded in {max_length} tokens: {error}") from error
        for source, encoding in enumerate(encodings):
            windows = (encoding, *encoding.overflowing) if stride else (encoding,)
            for window in windows:
                _append(encoded, window, source, offsets)
        return encoded

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        texts: list[str] = self._backend.decode_batch([list(row) for row in ids], skip_special_tokens=True)
        return texts

    def fingerprint(self) -> str:
        with self._lock:
            self._set_truncation(512, 0, "longest_first", "right")
            ids = self._backend.encode(_PROBE, _PROBE[:9]).ids
        pieces = sorted(self._backend.get_vocab(with_added_tokens=True).items())
        return hashlib.sha256(json.dumps([pieces, self.pad_id, ids]).encode()).hexdigest()[:16]

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._backend.no_truncation()
            self._truncation = None
            self._backend.save(str(path / "tokenizer.json"))
        settings = {key: value for key, value in self._settings.items() if key not in _MACHINE_KEYS}
        (path / "tokenizer_config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> PretrainedTokenizer:
        file = path / "tokenizer.json"
        if not file.is_file():
            return cls._convert(path)
        try:
            backend = Backend.from_file(str(file))
        except Exception as error:
            raise ArtifactError(f"{file} cannot be read as a tokenizer: {error}") from error
        return cls(backend, _settings(path / "tokenizer_config.json"))

    @classmethod
    def _convert(cls, path: Path) -> PretrainedTokenizer:
        from transformers import AutoTokenizer  # slow to import, and only older checkpoints need it

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{path} holds no tokenizer (tokenizer.json, or the vocabulary files of its family)."
            ) from error
        return cls(
            tokenizer.backend_tokenizer, {"tokenizer_class": type(tokenizer).__name__, "pad_token": tokenizer.pad_token}
        )

    @classmethod
    def fit(cls, texts: Iterable[str], *, vocab_size: int) -> PretrainedTokenizer:
        """Learn a lower-casing WordPiece vocabulary as BERT's, the same for the same texts, which are read twice."""
        lines = list(texts) if isinstance(texts, Iterator) else texts
        learner = Backend(WordPiece(unk_token="[UNK]"))
        learner.normalizer, learner.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
        alphabet, inner = _characters(learner, lines, limit=(vocab_size - len(_SPECIAL)) // 2)
        # The trainer numbers inner pieces in the order of a hash table, other in every process: given up front, all
        # ranks and a resumed run learn one vocabulary.
        trainer = WordPieceTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            show_progress=False,
            special_tokens=[*_SPECIAL.values(), *(f"##{character}" for character in inner)],
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
        )
        learner.train_from_iterator(lines, trainer)
        vocabulary = learner.get_vocab()
        backend = Backend(WordPiece(vocabulary, unk_token="[UNK]"))
        backend.normalizer, backend.pre_tokenizer = learner.normalizer, learner.pre_tokenizer
        backend.post_processor = BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
        backend.decoder = WordPieceDecoder()
        backend.add_special_tokens(list(_SPECIAL.values()))
        return cls(backend, {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **_SPECIAL})

    def _set_truncation(self, max_length: int, stride: int, strategy: str, direction: str) -> None:
        room = max_length - self._backend.num_special_tokens_to_add(is_pair=strategy == "only_second")
        if room <= stride:
            raise ConfigError(
                f"windows of {max_length} tokens have room for {max(room, 0)} of a text, "
                f"and cannot overlap by {stride}. Raise data.max_length."
            )
        wanted = (max_length, stride, strategy, direction)
        if wanted != self._truncation:
            self._backend.enable_truncation(max_length, stride=stride, strategy=strategy, direction=direction)
            self._truncation = wanted


def _settings(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        settings: dict[str, Any] = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ArtifactError(f"{file} is not valid JSON: {error}") from error
    return settings


_MACHINE_KEYS = (
    "name_or_path",
    "vocab_file",
    "tokenizer_file",
    "max_length",
    "pad_to_multiple_of",
    "pad_token_type_id",
    "stride",
)


def _characters(backend: Backend, texts: Iterable[str], *, limit: int) -> tuple[list[str], list[str]]:
    """The most frequent characters of *texts*, and those of them that occur inside a word; both sorted."""
    counts: Counter[str] = Counter()
    inside: set[str] = set()
    for text in texts:
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text)):
            counts.update(word)
            inside.update(word[1:])
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    alphabet = sorted(ranked[: max(0, min(_ALPHABET, limit))])
    return alphabet, [character for character in alphabet if character in inside]


def _append(encoded: Encoded, window: Encoding, source: int, offsets: bool) -> None:
    encoded.ids.append(window.ids)
    encoded.segments.append(window.type_ids)
    encoded.sources.append(source)
    if offsets:
        encoded.offsets.append(window.offsets)
        encoded.words.append(window.word_ids)
