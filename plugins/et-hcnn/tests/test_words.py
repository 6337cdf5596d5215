from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import rjieba
from transformers import AutoTokenizer

from et_core.errors import ArtifactError, ConfigError, DataError, UnknownNameError
from et_core.interfaces import Encoded, Segmenter
from et_core.registry import registry
from et_hcnn.segmenters import Jieba, Words
from et_hcnn.tokenizer import WordTokenizer

TEXTS = [
    "The quick brown fox doesn't jump, it's in the U.S. for $2,000.50",
    "我爱北京天安门 and the fox",
    "",
    "  \t",
    "\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea ok \U0001f600!",
    "naïve cafe\u0301 ÄÖÜ [PAD] [SEP]",
]
WORDS_OF_FIRST = [
    *("The", "quick", "brown", "fox", "does", "n't", "jump", ",", "it", "'s"),
    *("in", "the", "U.S.", "for", "$", "2,000.50"),
]
SEGMENTERS = ["words", "characters", "jieba"]


def fit(segmenter: str = "words", **options: object) -> WordTokenizer:
    settings: dict[str, object] = {"vocab_size": 100, "segmenter": segmenter, **options}
    return WordTokenizer.fit(TEXTS, **settings)  # type: ignore[arg-type]


def pieces(encoded: Encoded, texts: list[str], pairs: list[str] | None = None) -> list[list[str]]:
    """What each token's offsets point at."""
    sides = (texts, pairs or texts)
    return [
        [sides[side][source][start:end] for (start, end), side in zip(offsets, segments, strict=True)]
        for offsets, segments, source in zip(encoded.offsets, encoded.segments, encoded.sources, strict=True)
    ]


@pytest.mark.parametrize(
    ("segmenter", "text", "words"),
    [
        ("words", TEXTS[0], WORDS_OF_FIRST),
        (
            "words",
            "I can’t, they'll co-op at 3:45",
            ["I", "ca", "n’t", ",", "they", "'ll", "co", "-", "op", "at", "3:45"],
        ),
        ("words", "我爱北京abc世界123 한국어 カタ", [*"我爱北京", "abc", *"世界", "123", "한국어", *"カタ"]),
        ("words", TEXTS[4], ["\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "ok", "\U0001f600", "!"]),
        ("words", "cafe\u0301 a_b C++", ["cafe\u0301", "a_b", "C", "+", "+"]),
        ("words", "n't 'sample' rock'n'roll", ["n't", "'", "sample", "'", "rock", "'", "n", "'", "roll"]),
        ("characters", "ae\u0301 北\U0001f44d\U0001f3fd", ["a", "e\u0301", "北", "\U0001f44d\U0001f3fd"]),
        ("jieba", "我爱北京天安门 and the fox", ["我", "爱", "北京", "天安门", "and", "the", "fox"]),
        ("jieba", "\U0001f600南京市长江大桥", ["\U0001f600", "南京市", "长江大桥"]),
    ],
)
def test_segmenters_find_these_words(segmenter: str, text: str, words: list[str]) -> None:
    spans = registry("segmenters").create(segmenter).spans(text)
    assert [text[start:end] for start, end in spans] == words


@pytest.mark.parametrize("segmenter", SEGMENTERS)
def test_tokens_are_the_words_of_the_segmenter_and_offsets_point_at_them(segmenter: str) -> None:
    found = fit(segmenter).encode(TEXTS, max_length=100, offsets=True)
    finder = registry("segmenters").create(segmenter)
    expected = [[text[start:end] for start, end in finder.spans(text)] or [""] for text in TEXTS]
    assert pieces(found, TEXTS) == expected
    assert found.words == [list(range(len(words))) if words != [""] else [None] for words in expected]


@pytest.mark.parametrize("segmenter", SEGMENTERS)
def test_an_empty_text_is_one_unknown_word(segmenter: str) -> None:
    tokenizer = fit(segmenter)
    assert tokenizer.encode(["", " \n", "\u3000"], max_length=9).ids == [[tokenizer.special_ids["unk"]]] * 3
    assert tokenizer.encode([""], max_length=9, offsets=True).offsets == [[(0, 0)]]


def test_frequent_words_come_first_and_the_rest_is_unknown() -> None:
    texts = ["b b b", "a a", "c c", "d"]
    tokenizer = WordTokenizer.fit(texts, vocab_size=6)
    assert tokenizer.vocabulary == {"[PAD]": 0, "[UNK]": 1, "[SEP]": 2, "b": 3, "a": 4, "c": 5}
    assert tokenizer.encode(["d a B"], max_length=9).ids == [[1, 4, 3]]
    assert tokenizer.vocab_size == 6
    assert set(WordTokenizer.fit(texts, vocab_size=99, min_frequency=2).vocabulary) - {"a", "b", "c"} == {
        "[PAD]",
        "[UNK]",
        "[SEP]",
    }


@pytest.mark.parametrize("segmenter", SEGMENTERS)
def test_case_is_kept_where_it_is_wanted(segmenter: str) -> None:
    upper = [
        fit(segmenter, lowercase=lowercase).encode(["FOX", "fox"], max_length=9).ids for lowercase in (True, False)
    ]
    assert upper[0][0] == upper[0][1]
    assert upper[1][0] != upper[1][1]


@pytest.mark.parametrize("segmenter", SEGMENTERS)
def test_a_pair_is_joined_by_a_separator_and_told_apart_by_segments(segmenter: str) -> None:
    tokenizer = fit(segmenter)
    joined = tokenizer.encode(["the fox", ""], ["fox", "ok"], max_length=50, offsets=True)
    alone = tokenizer.encode(["the fox", "fox", "ok"], max_length=50).ids
    separator = tokenizer.special_ids["sep"]
    assert joined.ids == [[*alone[0], separator, *alone[1]], [separator, *alone[2]]]
    count = len(alone[0]) + 1
    assert joined.segments[0] == [0] * count + [1] * len(alone[1])
    assert "".join(pieces(joined, ["the fox", ""], ["fox", "ok"])[0]) == "thefoxfox"


@pytest.mark.parametrize("segmenter", SEGMENTERS)
def test_truncation_cuts_either_side(segmenter: str) -> None:
    tokenizer = fit(segmenter)
    whole = tokenizer.encode([TEXTS[1]], max_length=100).ids[0]
    assert tokenizer.encode([TEXTS[1]], max_length=4).ids == [whole[:4]]
    assert tokenizer.encode([TEXTS[1]], max_length=4, truncation="left").ids == [whole[-4:]]
    assert len(tokenizer.encode([TEXTS[0]], [TEXTS[1]], max_length=7).ids[0]) == 7


@pytest.mark.parametrize("segmenter", SEGMENTERS)
def test_windows_overlap_by_the_stride_and_hold_every_word(segmenter: str) -> None:
    tokenizer = fit(segmenter)
    whole = tokenizer.encode([TEXTS[1]], max_length=100, offsets=True)
    found = tokenizer.encode([TEXTS[1], "ok"], max_length=4, stride=1, offsets=True)
    first = [ids for ids, source in zip(found.ids, found.sources, strict=True) if source == 0]
    assert len(first) > 1
    assert first[0] + [token for window in first[1:] for token in window[1:]] == whole.ids[0]
    assert found.offsets[1][0] == found.offsets[0][-1] == whole.offsets[0][3]


@pytest.mark.parametrize("segmenter", SEGMENTERS)
def test_special_tokens_in_a_text_are_ordinary_words(segmenter: str) -> None:
    tokenizer = fit(segmenter, lowercase=False)
    ids = tokenizer.encode(["[PAD] [SEP] [UNK]"], max_length=50).ids[0]
    assert not {tokenizer.special_ids["pad"], tokenizer.special_ids["sep"]} & set(ids)


@pytest.mark.parametrize("segmenter", SEGMENTERS)
@pytest.mark.parametrize("copy", ["saved", "pickled"])
def test_a_copy_gives_the_same_tokens(tmp_path: Path, segmenter: str, copy: str) -> None:
    tokenizer = fit(segmenter)
    tokenizer.encode(TEXTS, max_length=3)
    if copy == "saved":
        tokenizer.save(tmp_path)
        again = WordTokenizer.load(tmp_path)
    else:
        again = pickle.loads(pickle.dumps(tokenizer))
    assert again.fingerprint() == tokenizer.fingerprint()
    for length in (3, 100):
        assert again.encode(TEXTS, TEXTS[::-1], max_length=length) == tokenizer.encode(
            TEXTS, TEXTS[::-1], max_length=length
        )
    assert (again.pad_id, again.special_ids, again.vocabulary) == (0, tokenizer.special_ids, tokenizer.vocabulary)


def test_transformers_reads_the_saved_tokenizer(tmp_path: Path) -> None:
    tokenizer = fit()
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(str(tmp_path))
    assert theirs(TEXTS[:2])["input_ids"] == tokenizer.encode(TEXTS[:2], max_length=100).ids
    assert theirs(TEXTS[0], TEXTS[1])["input_ids"] == tokenizer.encode(TEXTS[:1], TEXTS[1:2], max_length=100).ids[0]


FIT = """
import sys, json
from et_hcnn.tokenizer import WordTokenizer
texts = json.loads(sys.argv[1])
for name in ("words", "characters", "jieba"):
    tokenizer = WordTokenizer.fit(texts, vocab_size=30, segmenter=name)
    print(tokenizer.fingerprint(), sorted(tokenizer.vocabulary.items(), key=lambda item: item[1]))
"""


def test_the_same_texts_give_the_same_ids_in_every_process() -> None:
    def run(seed: str) -> str:
        command = [sys.executable, "-c", FIT, json.dumps(TEXTS)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        )
        return done.stdout

    first = run("1")
    assert len(first.splitlines()) == 3
    assert run("2") == run("77") == first


def test_the_fingerprint_changes_with_words_case_and_segmenter(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [fit(name).fingerprint() for name in SEGMENTERS]
    found += [fit(lowercase=False).fingerprint(), fit(vocab_size=9).fingerprint()]
    tokenizer = fit("jieba")
    assert tokenizer.fingerprint() == found[2]
    monkeypatch.setattr(Jieba, "spans", Words().spans)
    found.append(tokenizer.fingerprint())
    assert len(set(found)) == len(found)


def test_the_fingerprint_notices_that_the_same_words_are_cased(tmp_path: Path) -> None:
    lower = WordTokenizer.fit(["alpha beta"], vocab_size=9)
    lower.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    values = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({**values, "normalizer": None}), "utf-8")
    cased = WordTokenizer.load(tmp_path)
    assert cased.vocabulary == lower.vocabulary
    assert cased.fingerprint() != lower.fingerprint()


def test_ids_become_words_again() -> None:
    tokenizer = fit()
    ids = tokenizer.encode(["The fox", "ok"], ["fox", "the"], max_length=9).ids
    assert tokenizer.decode(ids) == ["the fox fox", "ok the"]


def test_one_by_one_equals_all_at_once() -> None:
    for tokenizer in map(fit, SEGMENTERS):
        whole = tokenizer.encode(TEXTS, max_length=9).ids
        assert [tokenizer.encode([text], max_length=9).ids[0] for text in TEXTS] == whole


@pytest.mark.parametrize("segmenter", SEGMENTERS)
def test_the_segmenter_is_saved_with_its_distribution(tmp_path: Path, segmenter: str) -> None:
    fit(segmenter).save(tmp_path)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))["et_segmenter"] == f"et-hcnn/{segmenter}"


def test_a_pattern_needs_no_plugin_to_be_read_again(tmp_path: Path) -> None:
    fit().save(tmp_path)
    edit(tmp_path, lambda settings: settings.update(et_segmenter="et-gone/words"))
    assert WordTokenizer.load(tmp_path).fingerprint() == fit().fingerprint()


def edit(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text("utf-8"))
    change(settings)
    file.write_text(json.dumps(settings), "utf-8")


def test_a_saved_tokenizer_whose_segmenter_is_gone_says_so(tmp_path: Path) -> None:
    fit("jieba").save(tmp_path)
    edit(tmp_path, lambda settings: settings.update(et_segmenter="et-thai/thai"))
    with pytest.raises(UnknownNameError, match=r"^unknown segmenter 'et-thai/thai'"):
        WordTokenizer.load(tmp_path)
    edit(tmp_path, lambda settings: settings.pop("et_segmenter"))
    with pytest.raises(ArtifactError, match=r"does not say how a text is split into words: et_segmenter is missing\.$"):
        WordTokenizer.load(tmp_path)


def test_jieba_that_is_not_installed_is_a_message_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        Jieba()
    assert str(caught.value) == (
        "the segmenter 'jieba' needs the package rjieba, which is not installed: pip install 'et-hcnn[jieba]'"
    )


def test_windows_too_small_for_a_pair_are_refused() -> None:
    with pytest.raises(DataError, match="cannot be encoded in 4 tokens"):
        fit().encode([TEXTS[0]], ["fox fox fox fox fox"], max_length=4, stride=1)


def test_jieba_s_spans_are_in_characters_also_behind_an_emoji() -> None:
    text = "\U0001f469\u200d\U0001f467 北京"
    assert [text[start:end] for start, end in Jieba().spans(text)][-1] == "北京"
    assert rjieba.tokenize(text, "default", True)[-1][1:] == (4, 6)


def test_a_segmenter_of_another_plugin_is_used_from_python(monkeypatch: pytest.MonkeyPatch) -> None:
    class Halves(Segmenter):
        def spans(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text) // 2), (len(text) // 2, len(text))] if len(text) > 1 else []

    monkeypatch.setattr("et_hcnn.segmenters.Jieba.spans", Halves.spans)
    tokenizer = WordTokenizer.fit(["[PAD][UNK]", "abcd"], vocab_size=20, segmenter="jieba", lowercase=False)
    assert sorted(tokenizer.vocabulary) == ["[PAD]", "[SEP]", "[UNK]", "ab", "cd"]
    assert sorted(tokenizer.vocabulary.values()) == list(range(5))
