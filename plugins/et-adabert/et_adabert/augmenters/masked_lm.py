from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from et_adabert.augmenters.settings import check_count, check_rate
from et_adabert.augmenters.vocabulary import WordPieces
from et_adabert.augmenters.words import Place, draw_some, find_places, has_letters_only, match_case, substitute
from et_core.data import PretrainedTokenizer
from et_core.errors import ConfigError
from et_core.interfaces import Augmenter, Texts
from et_core.runfolder import file_sha256
from et_core.sources import resolve

_MAX_LENGTH = 512
_MAX_TOKENS = 4096
"""Tokens of a batch, for each of which there is a score of every piece: half a gigabyte with 30,000 pieces."""


@dataclass(frozen=True)
class _Masked:
    """A text with masks: the row it is of, its ids, and what a mask each stands for, with a draw from [0, 1)."""

    row: int
    ids: list[int]
    words: list[tuple[Place, str, float]]


class MaskedLm(Augmenter):
    """Words give way to what a masked language model expects in their place, as in TinyBERT and AdaBERT.

    *model* is the reference of a checkpoint of pre-training, with its head, such as "bert-base-en@zoo". Words are
    masked with probability *rate*, at least one of a row, all of a text at once and each as one mask. A replacement is
    drawn among the *top_k* whole words that the model finds likeliest, by its probabilities of these; the old word is
    none of them. Words with an apostrophe stay, as do texts in a script without spaces and what is beyond the model's
    length. The texts of a pair are read each by itself, *batch_size* texts at once, or fewer where they are long.
    """

    def __init__(self, *, model: str = "", rate: float = 0.3, top_k: int = 15, batch_size: int = 64) -> None:
        self._rate = check_rate("rate", rate)
        self._top_k = check_count("top_k", top_k)
        self._batch_size = check_count("batch_size", batch_size)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        folder = _folder_of(model)
        self._tokenizer, self._mask_token = _load_tokenizer(folder, model)
        self._model = _load_model(folder, model).to(self._device)
        positions = getattr(self._model.config, "max_position_embeddings", None) or _MAX_LENGTH
        self._max_length = min(_MAX_LENGTH, positions - 2)  # RoBERTa counts positions from 2
        self._pieces = WordPieces(self._tokenizer)
        self._piece_ids = torch.from_numpy(self._pieces.ids).to(self._device)

    @classmethod
    def reads(cls, options: Mapping[str, Any]) -> Any:
        folder = _folder_of(options.get("model", ""))
        return [file_sha256(path) for path in sorted(folder.iterdir()) if path.is_file()]

    def augment(self, rows: Sequence[Texts], rng: np.random.Generator) -> list[Texts]:
        candidates = [self._candidates(row) for row in rows]
        drawn = draw_some([len(words) for words in candidates], self._rate, rng)
        luck = iter(rng.random(sum(map(len, drawn))).tolist())
        chosen = [
            [(*words[index], next(luck)) for index in indices] for words, indices in zip(candidates, drawn, strict=True)
        ]
        news: list[list[tuple[Place, str]]] = [[] for _ in rows]
        for batch in self._batches(self._masked(rows, chosen)):
            for text, words in zip(batch, self._predict(batch), strict=True):
                news[text.row] += [(place, new) for (place, _, _), new in zip(text.words, words, strict=True)]
        return [substitute(row, of_row) for row, of_row in zip(rows, news, strict=True)]

    def _candidates(self, row: Texts) -> list[tuple[Place, str]]:
        places = [place for place in find_places(row) if self._mask_token not in row[place[0]]]
        words = [(place, row[place[0]][place[1] : place[2]]) for place in places]
        return [(place, word) for place, word in words if has_letters_only(word)]

    def _masked(self, rows: Sequence[Texts], chosen: Sequence[Sequence[tuple[Place, str, float]]]) -> list[_Masked]:
        texts, of_texts = [], []
        for index, (row, words) in enumerate(zip(rows, chosen, strict=True)):
            masked = substitute(row, [(place, self._mask_token) for place, _, _ in words])
            for number, text in enumerate(masked):
                if inside := [word for word in words if word[0][0] == number]:
                    texts.append(text)
                    of_texts.append((index, inside))
        encoded = self._tokenizer.encode(texts, max_length=self._max_length).ids
        mask = self._tokenizer.special_ids["mask"]
        # What is beyond the model's length was cut off, masks with it: the first ones are left.
        return [
            _Masked(index, ids, words[: ids.count(mask)])
            for ids, (index, words) in zip(encoded, of_texts, strict=True)
            if mask in ids
        ]

    def _batches(self, texts: Sequence[_Masked]) -> Iterator[list[_Masked]]:
        """Texts of like length together, as many as *batch_size* and ``_MAX_TOKENS`` allow."""
        batch: list[_Masked] = []
        for text in sorted(texts, key=lambda text: len(text.ids)):
            if len(batch) == self._batch_size or (len(batch) + 1) * len(text.ids) > _MAX_TOKENS:
                yield batch
                batch = []
            batch.append(text)
        if batch:
            yield batch

    @torch.inference_mode()
    def _predict(self, batch: Sequence[_Masked]) -> list[list[str]]:
        """The new word for each mask of each text."""
        width = max(len(text.ids) for text in batch)
        pad = self._tokenizer.pad_id
        ids = torch.tensor([text.ids + [pad] * (width - len(text.ids)) for text in batch])
        lengths = torch.tensor([len(text.ids) for text in batch])
        attention = (torch.arange(width) < lengths[:, None]).long()
        at = (ids == self._tokenizer.special_ids["mask"]).nonzero(as_tuple=True)
        logits = self._model(input_ids=ids.to(self._device), attention_mask=attention.to(self._device)).logits
        scores = logits[at[0].to(self._device), at[1].to(self._device)][:, self._piece_ids].float()
        words = [word for text in batch for word in text.words]
        news = iter(self._draw(scores.cpu(), [word for _, word, _ in words], [share for _, _, share in words]))
        return [[next(news) for _ in text.words] for text in batch]

    def _draw(self, scores: Tensor, words: Sequence[str], luck: Sequence[float]) -> list[str]:
        """For each of *words*, with *scores* [words, pieces], one of the likeliest others; *luck* says which."""
        for row, (word, known) in enumerate(zip(words, self._pieces.find(words), strict=True)):
            same = word if known is None else self._pieces.words[known]
            scores[row, self._pieces.variants(same)] = -torch.inf
        best = scores.topk(min(self._top_k, scores.shape[1]))
        shares = best.values.double().softmax(-1).cumsum(-1)
        # Divided by the last sum, which rounding may leave below 1, the draw of each falls into one of them.
        draws = torch.tensor(luck, dtype=torch.float64)[:, None]
        ranks = torch.searchsorted(shares / shares[:, -1:], draws, right=True)
        places = best.indices.gather(1, ranks)[:, 0].tolist()
        found = [self._pieces.words[place] for place in places]
        return [match_case(new, word) if self._pieces.uncased else new for new, word in zip(found, words, strict=True)]


def _folder_of(model: str) -> Path:
    """The folder of the checkpoint that *model* refers to; ConfigError where there is none."""
    if not model:
        raise ConfigError("masked-lm needs the option model: a masked language model, such as bert-base-en@zoo.")
    folder = resolve(model).folder
    if folder is None:
        raise ConfigError(f"model is {model!r}, which has no weights: masked-lm needs a trained model.")
    return folder


def _load_tokenizer(folder: Path, ref: str) -> tuple[PretrainedTokenizer, str]:
    """The tokenizer in *folder* and the text of its mask."""
    try:
        found = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model is {ref!r}, which holds no tokenizer that loads: {_first_line(error)}") from error
    if found.mask_token is None:
        raise ConfigError(f"model is {ref!r}, whose tokenizer has no mask token: it is no masked language model.")
    if not found.is_fast:
        raise ConfigError(f"model is {ref!r}, whose tokenizer is not of the tokenizers library. Take another model.")
    return PretrainedTokenizer(found.backend_tokenizer, dict(found.special_tokens_map)), str(found.mask_token)


def _load_model(folder: Path, ref: str) -> Any:
    quiet = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        model, report = AutoModelForMaskedLM.from_pretrained(
            str(folder), dtype=torch.float32, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"model is {ref!r}, which does not load: {_first_line(error)}") from error
    finally:
        transformers_logging.set_verbosity(quiet)
        transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    if missing := sorted(report["missing_keys"]):
        raise ConfigError(
            f"model is {ref!r}, whose weights lack the head of a masked language model: {len(missing)} tensors are "
            f"missing, such as {missing[0]}. Take the checkpoint of pre-training."
        )
    return model.eval()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
