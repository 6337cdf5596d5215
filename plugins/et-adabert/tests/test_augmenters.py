"""What all augmenters promise, words in a text, and the two that need no model: deletion and mixing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from et_adabert.augmenters.deletion import RandomDeletion
from et_adabert.augmenters.mixing import SpanMixing
from et_adabert.augmenters.words import draw_some, find_words, has_letters_only, match_case, substitute
from et_core.config import ComponentConfig
from et_core.data import PretrainedTokenizer
from et_core.errors import ConfigError
from et_core.interfaces import Augmenter, Model, Texts, build_augmenter
from et_core.testing.stand_ins import TextEncoder

SINGLE = ["random-deletion", "span-mixing"]
LINES = ["the cat sat on the mat", "a dog ran over the hill", "one bird sings all the day", "no fish swims in the sand"]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in find_words(text)]


def real_rows(shared_data: Path, name: str, texts: int, count: int = 1500) -> list[Texts]:
    lines = (shared_data / "glue" / name / "train.tsv").read_text("utf-8").splitlines()[1 : count + 1]
    return [tuple(line.split("\t")[:texts]) for line in lines]


def build(name: str, **options: Any) -> Augmenter:
    """The registered augmenter *name*, with a small teacher for the one that asks for it."""
    tokenizer = PretrainedTokenizer.fit(LINES * 2, vocab_size=120)
    torch.manual_seed(0)
    teacher = Model(TextEncoder(tokenizer.vocab_size, TextEncoder.Options()), {})
    config = ComponentConfig(name=name, options=options)
    return build_augmenter(config, where="distill.augment", teacher=teacher, tokenizer=tokenizer)


def in_order(part: Sequence[str], whole: Sequence[str]) -> bool:
    rest = iter(whole)
    return all(word in rest for word in part)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The film 's good, isn't it?", ["The", "film", "'s", "good", "isn't", "it"]),
        ("a well-written co-op", ["a", "well", "written", "co", "op"]),
        ("does n't 'quote' it’s “said”", ["does", "n't", "quote", "it’s", "said"]),
        ("2e\u0301s 2nd x86 a_b 3.5 $9m B2B 90's", ["'s"]),
        ("naïve cafe\u0301 ÄÖÜ Straße", ["naïve", "cafe\u0301", "ÄÖÜ", "Straße"]),
        ("фильм хорош हिन्दी 한국어", ["фильм", "хорош", "हिन्दी", "한국어"]),
        ("话说有时候我就有点难过。カタカナ ไทย", []),
        ("我的iPhone坏了", ["iPhone"]),
        ("m² ½x ①a", []),
        ("", []),
        (" \t\n", []),
        ("\U0001f600 ... --", []),
    ],
)
def test_words_are_runs_of_letters(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_a_word_with_an_apostrophe_or_of_han_has_not_only_letters() -> None:
    assert [
        word for word in ("film", "isn't", "##ing", "[unused1]", "7", "电影", "naïve", "") if has_letters_only(word)
    ] == [
        "film",
        "naïve",
    ]


def test_a_new_word_takes_the_capitals_of_the_old() -> None:
    assert [match_case("movie", like) for like in ("film", "Film", "FILM", "I", "iPhone")] == [
        "movie",
        "Movie",
        "MOVIE",
        "Movie",
        "movie",
    ]


def test_a_substitution_leaves_all_else() -> None:
    row = ("  a b,  c ", "d\te")
    assert substitute(row, [((0, 2, 3), "xx"), ((0, 8, 9), ""), ((1, 2, 3), "y")]) == ("  xx b,   ", "d\ty")
    assert substitute(row, []) == row


def test_some_of_each_group_are_drawn_at_the_rate_and_one_at_least() -> None:
    sizes = [0, 1, 2, 40, 0, 3] * 500
    drawn = draw_some(sizes, 0.2, rng())
    assert len(drawn) == len(sizes)
    for size, indices in zip(sizes, drawn, strict=True):
        assert bool(indices) == bool(size)
        assert indices == sorted(set(indices))
        assert set(indices) <= set(range(size))
    assert np.mean([len(indices) / 40 for indices in drawn[3::6]]) == pytest.approx(0.2, abs=0.01)
    alone = Counter(indices[0] for indices in drawn[5::6] if len(indices) == 1)
    assert min(alone.values()) > 100  # the one that is always drawn is any of three
    assert draw_some([2, 3], 1.0, rng()) == [[0, 1], [0, 1, 2]]
    assert draw_some([], 0.5, rng()) == []


@pytest.mark.parametrize("name", [*SINGLE, "embedding-neighbours"])
def test_a_seed_gives_the_same_rows_and_another_seed_others(name: str) -> None:
    augmenter, rows = build(name), [(line,) for line in LINES * 5]
    first = augmenter.augment(rows, rng(7))
    assert augmenter.augment(rows, rng(7)) == first
    assert build(name).augment(rows, rng(7)) == first
    assert augmenter.augment(rows, rng(8)) != first


@pytest.mark.parametrize("name", [*SINGLE, "embedding-neighbours"])
def test_texts_without_words_come_back_as_they_are(name: str) -> None:
    rows = [("", ""), (" ", "?!"), ("12 34", "\U0001f600"), ("今天天气很好", "我喜欢你那你喜欢我吗")]
    assert build(name).augment(rows, rng()) == rows
    assert build(name).augment([], rng()) == []


@pytest.mark.parametrize("name", [*SINGLE, "embedding-neighbours", "masked-lm"])
def test_all_options_but_the_given_parts_have_defaults(name: str) -> None:
    if name == "masked-lm":
        with pytest.raises(ConfigError, match="needs the option model"):
            build(name)
    else:
        assert isinstance(build(name), Augmenter)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        *(
            (name, "rate", value)
            for name in ("random-deletion", "embedding-neighbours", "masked-lm")
            for value in (0, 1.1)
        ),
        ("random-deletion", "rate", float("nan")),
        *(("span-mixing", "share", value) for value in (0.0, -1, 2)),
        ("embedding-neighbours", "neighbours", 0),
        ("embedding-neighbours", "min_similarity", 1.0),
        ("embedding-neighbours", "min_similarity", -0.1),
        ("masked-lm", "top_k", 0),
        ("masked-lm", "batch_size", 0),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(name: str, option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{option} is "):
        build(name, **{option: value})


def test_deletion_leaves_out_words_and_neither_all_nor_none() -> None:
    rows = [(line, "Two words") for line in LINES] * 50
    for row, made in zip(rows, RandomDeletion(rate=0.9).augment(rows, rng()), strict=True):
        assert made != row
        for old, new in zip(row, made, strict=True):
            assert words(new)
            assert in_order(words(new), words(old))
    assert all(made != row for row, made in _deleted([("word", "two words")] * 50, rate=0.01))
    one = [("word",), ("Word !",)]
    assert RandomDeletion(rate=1.0).augment(one, rng()) == one


def _deleted(rows: list[Texts], *, rate: float) -> list[tuple[Texts, Texts]]:
    return list(zip(rows, RandomDeletion(rate=rate).augment(rows, rng()), strict=True))


def test_deletion_takes_so_many_of_the_words_as_its_rate() -> None:
    rows = [(" ".join(LINES), " ".join(LINES * 2))] * 300
    made = RandomDeletion(rate=0.15).augment(rows, rng())
    for number in (0, 1):
        kept = np.mean([len(words(new[number])) / len(words(old[number])) for old, new in zip(rows, made, strict=True)])
        assert kept == pytest.approx(0.85, abs=0.01)


@pytest.mark.parametrize(
    ("text", "all_shorter"),
    [
        ("good film", {"good", "film"}),
        ("well-written", {"well", "written"}),
        ("good , bad .", {", bad .", "good , ."}),
        ("It's (very) bad.", {"(very) bad.", "It's () bad.", "It's (very).", "It's ().", "() bad.", "(very)."}),
        ("a  b\tc", {"b\tc", "a  c", "a  b", "a", "b", "c"}),
    ],
)
def test_deletion_closes_the_gap(text: str, all_shorter: set[str]) -> None:
    made = {new for (new,) in RandomDeletion(rate=0.4).augment([(text,)] * 400, rng())}
    assert made == all_shorter


@pytest.mark.parametrize(("name", "texts"), [("SST-2", 1), ("MRPC", 2)])
def test_deletion_on_real_rows_adds_nothing(shared_data: Path, name: str, texts: int) -> None:
    rows = real_rows(shared_data, name, texts)
    made = RandomDeletion().augment(rows, rng())
    for row, new in zip(rows, made, strict=True):
        for before, after in zip(row, new, strict=True):
            assert in_order(after, before)
            assert len(re.findall(r"\s\s", after)) <= len(re.findall(r"\s\s", before))
        assert (new == row) == all(len(find_words(text)) < 2 for text in row)


def test_mixing_takes_a_span_from_another_row_of_the_same_position() -> None:
    rows = [(f"a{'bcdefghijk'[number]}x " * 10, f"m{'bcdefghijk'[number]}y " * 10) for number in range(10)]
    made = SpanMixing(share=0.3).augment(rows, rng())
    changed = []
    for number, (row, new) in enumerate(zip(rows, made, strict=True)):
        (place,) = [place for place in (0, 1) if row[place] != new[place]]  # of a pair one text at a time
        changed.append(place)
        old, mixed = row[place].split(), new[place].split()
        others = [index for index, word in enumerate(mixed) if word != old[0]]
        assert len(mixed) == 10
        assert others == list(range(others[0], others[0] + 3))
        (stranger,) = {mixed[index] for index in others}
        assert stranger in {other[place].split()[0] for index, other in enumerate(rows) if index != number}
    assert set(changed) == {0, 1}


def test_mixing_never_takes_the_whole_text_and_keeps_what_is_around_the_span() -> None:
    rows = [("< ab, ab! >",), ("cd ... cd",)]
    made = set(SpanMixing(share=1.0).augment(rows * 50, rng()))
    assert made == {("< cd, ab! >",), ("< ab, cd! >",), ("ab ... cd",), ("cd ... ab",), *rows}


def test_a_run_brings_what_stands_between_its_words() -> None:
    rows = [("ab ab ab ab",), ("cd, cd - cd; cd",)]
    assert any("cd, cd" in new or "cd - cd" in new for (new,) in SpanMixing(share=0.5).augment(rows, rng()))


def test_mixing_needs_another_row_with_words() -> None:
    rows = [("one two three", "four five"), ("", "?"), ("word", "")]
    made = SpanMixing().augment(rows, rng())
    assert made[1:] == rows[1:]
    assert made[0][1] == "four five"  # no other row has words in its second text
    assert made[0][0].count("word") == 1
    assert SpanMixing().augment(rows[:1], rng()) == rows[:1]


@pytest.mark.parametrize(("name", "texts"), [("SST-2", 1), ("MRPC", 2)])
def test_mixing_on_real_rows_changes_one_text_by_its_share(shared_data: Path, name: str, texts: int) -> None:
    rows = real_rows(shared_data, name, texts)
    made = SpanMixing(share=0.3).augment(rows, rng())
    assert sum(new != row for row, new in zip(rows, made, strict=True)) > 0.9 * len(rows)
    for row, new in zip(rows, made, strict=True):
        changed = [place for place in range(texts) if row[place] != new[place]]
        assert len(changed) <= 1
        for place in changed:
            old, mixed = words(row[place]), words(new[place])
            count = min(max(1, round(0.3 * len(old))), len(old) - 1)
            assert len(old) - count < len(mixed) <= len(old) + 1
            kept = sum((Counter(old) & Counter(mixed)).values())
            assert kept >= len(old) - count - 1
