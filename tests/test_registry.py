from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from et_core.errors import AmbiguousNameError, ComponentError, PluginError, UnknownNameError
from et_core.registry import KINDS, Entry, Registry, resolve_target
from tests.fake_dists import on_path

SOURCE_MODULE = """
from pathlib import Path
from typing import Any
from et_core.interfaces import Source

Path(__file__).with_suffix(".imported").touch()

class Good(Source):
    def __init__(self, *, retries=0):
        self.retries = retries
    def resolve(self, ref):
        return ref

class Stranger:
    pass

TABLE = {"a b": Good, "1.5": Stranger}
"""


def entry(
    name: str,
    distribution: str = "et-bert",
    *,
    target: str = "nowhere:Thing",
    kind: str = "backbones",
    **details: Any,
) -> Entry:
    return Entry(kind, name, target, distribution, "0.1", "A test", **details)


def backbones(*entries: Entry) -> Registry[object]:
    return Registry(KINDS["backbones"], entries)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "sourcery.py").write_text(SOURCE_MODULE, "utf-8")
    with on_path(tmp_path):
        yield tmp_path


def source(target: str, **details: Any) -> Registry[object]:
    return Registry(KINDS["sources"], [entry("good", target=target, kind="sources", **details)])


def test_names_come_in_natural_order_without_aliases() -> None:
    found = backbones(entry("bert-10"), entry("bert-2", aliases=("aaa",)), entry("albert"), entry("bert"))
    assert found.names() == ["albert", "bert", "bert-2", "bert-10"]
    assert [row.name for row in found.entries] == found.names()


def test_names_are_selected_by_a_shell_pattern() -> None:
    found = backbones(entry("bert-tiny-en"), entry("bert-base-en"), entry("albert-base-en"))
    assert found.names("bert-*") == ["bert-base-en", "bert-tiny-en"]
    assert found.names("*base*") == ["albert-base-en", "bert-base-en"]
    assert found.names("BERT*") == []


@pytest.mark.parametrize("name", ["bert", "b", "et-bert/bert", "et-bert/b", "ET_Bert/bert"])
def test_a_name_is_found_by_itself_its_alias_and_qualified(name: str) -> None:
    found = backbones(entry("bert", aliases=("b",)))
    assert name in found
    assert found.find(name).name == "bert"


@pytest.mark.parametrize("name", ["brt", "acme/bert", "", "/", "/bert/", None, 3, ["bert"], object()])
def test_asking_whether_a_name_is_there_never_raises(name: object) -> None:
    assert name not in backbones(entry("bert"))


def test_a_leading_slash_is_not_a_name() -> None:
    assert "/bert" not in backbones(entry("bert"))


def test_a_typo_gets_suggestions_and_the_list() -> None:
    with pytest.raises(UnknownNameError) as caught:
        backbones(entry("albert"), entry("bert"), entry("hcnn")).find("brt")
    assert str(caught.value) == (
        "unknown backbone 'brt'.\nDid you mean 'bert' or 'albert'?\nRegistered backbones: albert, bert, hcnn."
    )


def test_suggestions_disregard_case_and_know_aliases_and_distributions() -> None:
    found = backbones(entry("roberta", aliases=("bert-plus",)))
    with pytest.raises(UnknownNameError, match="Did you mean 'roberta'"):
        found.find("RoBERTa")
    with pytest.raises(UnknownNameError, match="Did you mean 'bert-plus'"):
        found.find("bert-pls")
    with pytest.raises(UnknownNameError, match="Did you mean 'et-bert/roberta'"):
        found.find("et-bert/robertta")


def test_an_unknown_name_without_any_names_says_so() -> None:
    with pytest.raises(UnknownNameError) as caught:
        backbones().find("bert")
    assert str(caught.value) == "unknown backbone 'bert'.\nNo installed plugin registers any backbone."


def test_a_long_list_is_cut_to_the_nearest_five() -> None:
    found = backbones(*(entry(f"model-{number}") for number in range(21)))
    with pytest.raises(UnknownNameError) as caught:
        found.find("xyz")
    first, second = str(caught.value).split("\n")
    assert first == "unknown backbone 'xyz'."
    assert second.startswith("21 backbones are registered, among them model-")
    assert second.count("model-") == 5
    assert second.endswith(". See: et list backbones")


def test_a_name_of_another_type_is_named_with_its_type() -> None:
    with pytest.raises(UnknownNameError) as caught:
        backbones(entry("bert")).find(None)  # type: ignore[arg-type]
    assert str(caught.value) == "a backbone is named by text, not None of type NoneType.\nRegistered backbones: bert."


def test_an_ambiguous_name_lists_the_qualified_ones_whatever_the_order() -> None:
    rows = [entry("albert", "et-albert"), entry("albert", "acme-albert")]
    for order in itertools.permutations(rows):
        with pytest.raises(AmbiguousNameError) as caught:
            backbones(*order).find("albert")
        assert str(caught.value) == (
            "backbone 'albert' is registered by 2 installed plugins. Say which one, or uninstall the other:\n"
            "  acme-albert/albert   (acme-albert 0.1)\n"
            "  et-albert/albert   (et-albert 0.1)"
        )
    found = backbones(*rows)
    assert "albert" in found
    assert found.names() == ["albert"]
    assert found.find("acme-albert/albert") == rows[1]


def test_an_alias_that_is_another_plugins_name_is_ambiguous() -> None:
    found = backbones(entry("bert"), entry("acme-bert", "acme", aliases=("bert",)))
    with pytest.raises(AmbiguousNameError, match=r"  acme/acme-bert   \(acme 0\.1\)\n  et-bert/bert   "):
        found.find("bert")


def test_three_candidates_are_the_others() -> None:
    found = backbones(*(entry("bert", name) for name in ("c", "a", "b")))
    with pytest.raises(AmbiguousNameError, match=r"by 3 installed plugins\. .* uninstall the others:\n  a/bert"):
        found.find("bert")


def test_replacing_wins_in_either_order_and_keeps_the_old_one_within_reach() -> None:
    old, new = entry("bert"), entry("bert", "acme", replaces="et-bert")
    for order in itertools.permutations([old, new]):
        found = backbones(*order)
        assert found.find("bert") == new
        assert found.find("et-bert/bert") == old
        assert found.entries == (new, old)


def test_a_chain_of_replacements_ends_at_the_last() -> None:
    rows = [entry("bert"), entry("bert", "acme", replaces="et-bert"), entry("bert", "zeta", replaces="acme")]
    for order in itertools.permutations(rows):
        assert backbones(*order).find("bert") == rows[2]


def test_two_plugins_that_replace_each_other_are_ambiguous_also_beside_a_third() -> None:
    pair = [entry("bert", "a", replaces="b"), entry("bert", "b", replaces="a")]
    for rows in (pair, [*pair, entry("bert", "c")]):
        for order in itertools.permutations(rows):
            with pytest.raises(AmbiguousNameError, match=f"by {len(rows)} installed plugins"):
                backbones(*order).find("bert")


@pytest.mark.parametrize("name", ["bert", "bert-2", "resnet50.a1", "t5", "3d"])
def test_names_are_lower_case_words(name: str) -> None:
    assert entry(name, aliases=(name + "-x",)).qualified == f"et-bert/{name}"


@pytest.mark.parametrize(
    "name", ["", "Bert", "bert_base", "bert base", "-bert", "bert-", "a--b", "a/b", "a@b", "a:b", "é"]
)
def test_other_names_are_refused_as_name_and_as_alias(name: str) -> None:
    given: list[dict[str, Any]] = [{"name": name}, {"name": "fine", "aliases": (name,)}]
    for details in given:
        with pytest.raises(PluginError) as caught:
            entry(**details)
        assert str(caught.value) == (
            f"et-bert 0.1 registers the backbone name {name!r}. "
            "Names are lower case letters and digits, joined by single '-' or '.'."
        )


def test_aliases_must_be_a_tuple_so_that_text_is_not_taken_letter_by_letter() -> None:
    with pytest.raises(PluginError, match="registers the backbone 'bert' with aliases that are not a tuple"):
        entry("bert", aliases="ab")


@pytest.mark.parametrize("target", ["a:b", "a.b.c:D", "_a:_b", "et_bert.presets:PRESETS[bert-base-en]", "a:b[a b.c/d]"])
def test_targets_are_module_and_attribute_or_one_entry_of_a_table(target: str) -> None:
    assert entry("bert", target=target).target == target


@pytest.mark.parametrize(
    "target", ["", "a", "a.b", "a:b.c", "a:b:c", ":b", "a:", "a:b[]", "a:b[c]d", "a:b[c][d]", "a b:c", "1a:b"]
)
def test_other_targets_are_refused(target: str) -> None:
    with pytest.raises(PluginError) as caught:
        entry("bert", target=target)
    assert str(caught.value) == (
        f"et-bert 0.1 registers the backbone 'bert' with the target {target!r}. "
        "A target is 'module:attribute' or 'module:table[key]'."
    )
    with pytest.raises(PluginError, match="is not a target: write 'module:attribute' or"):
        resolve_target(target)


@pytest.mark.parametrize("summary", ["", "  ", "x" * 73, "two\nlines"])
def test_a_summary_is_one_short_line(summary: str) -> None:
    with pytest.raises(
        PluginError, match=rf"a summary of {len(summary)} characters\. It must be one line of 1 to 72\."
    ):
        Entry("backbones", "bert", "a:b", "et-bert", "0.1", summary)
    assert Entry("backbones", "bert", "a:b", "et-bert", "0.1", "x" * 72).summary


def test_only_getting_a_name_imports_its_target(site: Path) -> None:
    found = source("sourcery:Good")
    assert found.names() == ["good"]
    assert "good" in found
    assert "god" not in found
    assert found.find("good").target == "sourcery:Good"
    assert found.entries
    with pytest.raises(UnknownNameError):
        found.find("sourcery")
    assert not (site / "sourcery.imported").exists()
    assert "sourcery" not in sys.modules

    assert found.get("good").__name__ == "Good"
    assert (site / "sourcery.imported").exists()


def test_an_import_path_is_never_a_name(site: Path) -> None:
    found = source("sourcery:Good")
    for name in ("sourcery", "sourcery:Good", "this", "json"):
        assert name not in found
        with pytest.raises(UnknownNameError):
            found.get(name)
    assert not (site / "sourcery.imported").exists()


def test_create_hands_over_the_arguments(site: Path) -> None:
    built = source("sourcery:Good").create("good", retries=3)
    assert vars(built) == {"retries": 3}


def test_a_target_may_be_one_entry_of_a_table(site: Path) -> None:
    assert source("sourcery:TABLE[a b]").get("good").__name__ == "Good"


def test_a_deprecated_name_works_and_warns(site: Path) -> None:
    found = source("sourcery:Good", deprecated="use 'better'.")
    with pytest.warns(FutureWarning) as caught:
        found.get("good")
    assert str(caught[0].message) == "source 'good' from et-bert 0.1 is deprecated: use 'better'."
    assert caught[0].filename == __file__


def test_a_target_whose_import_fails_gives_target_and_cause(site: Path) -> None:
    (site / "et_fashionbert.py").write_text("import torchvision_is_absent\n", "utf-8")
    found = backbones(entry("fashionbert", "et-fashionbert", target="et_fashionbert:FashionBert"))
    with pytest.raises(ComponentError) as caught:
        found.get("fashionbert")
    assert str(caught.value) == (
        "backbone 'fashionbert' from et-fashionbert 0.1 failed to import.\n"
        "  target: et_fashionbert:FashionBert\n"
        "  cause:  ModuleNotFoundError: No module named 'torchvision_is_absent'\n"
        "Run 'et plugins check et-fashionbert' for the full traceback."
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize(
    ("module", "target", "cause"),
    [
        ("", "flawed:Absent", "AttributeError: module 'flawed' has no attribute 'Absent'"),
        ("TABLE = {}", "flawed:TABLE[large]", "KeyError: 'large'"),
        ("raise SystemExit(3)", "flawed:Thing", "SystemExit: 3"),
        ("def (", "flawed:Thing", "SyntaxError: "),
    ],
)
def test_whatever_is_wrong_with_a_target_is_a_component_error(site: Path, module: str, target: str, cause: str) -> None:
    (site / "flawed.py").write_text(module + "\n", "utf-8")
    with pytest.raises(ComponentError) as caught:
        source(target).get("good")
    assert f"  cause:  {cause}" in str(caught.value)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("sourcery:Stranger", "the class sourcery.Stranger"),
        ("sourcery:TABLE[1.5]", "the class sourcery.Stranger"),
        ("sourcery:TABLE", "an object of type dict"),
    ],
)
def test_a_target_of_the_wrong_class_is_refused(site: Path, target: str, found: str) -> None:
    with pytest.raises(ComponentError) as caught:
        source(target).get("good")
    assert str(caught.value) == (
        f"source 'good' from et-bert 0.1 is not a subclass of Source.\n  target: {target}\n  found:  {found}"
    )


def test_a_preset_is_an_object_and_its_class_is_refused() -> None:
    row = entry("tiny", target="et_core.interfaces:Preset", kind="presets")
    with pytest.raises(ComponentError, match=r"preset 'tiny' from et-bert 0\.1 is not an instance of Preset\."):
        Registry(KINDS["presets"], [row]).get("tiny")


def test_a_class_without_all_that_its_kind_asks_for_is_told_what(site: Path) -> None:
    (site / "partial.py").write_text(
        "from et_core.interfaces import Head, App, Source\n"
        "class Silent(Source):\n    pass\n"
        "class Needy(Head):\n    needs = 'pooled'\n"
        "    def forward(self, features, *, positions=None):\n        return {}\n"
        "class Empty(App):\n    view = 'classes'\n",
        "utf-8",
    )
    with pytest.raises(ComponentError) as caught:
        source("partial:Silent").get("good")
    assert str(caught.value) == (
        "source 'good' from et-bert 0.1 is not whole: it does not define resolve.\n"
        "  target: partial:Silent\n"
        "What a source has to have: the docstring of et_core.interfaces.Source"
    )
    heads = Registry(KINDS["heads"], [entry("needy", target="partial:Needy", kind="heads")])
    with pytest.raises(ComponentError, match="its needs is 'pooled', not a frozenset of names"):
        heads.get("needy")
    apps = Registry(KINDS["apps"], [entry("empty", target="partial:Empty", kind="apps")])
    with pytest.raises(ComponentError, match=r"it does not define .*encode.*; it does not set roles, a .*prediction"):
        apps.get("empty")


def test_what_a_constructor_does_not_take_is_told_with_what_it_takes(site: Path) -> None:
    with pytest.raises(ComponentError) as caught:
        source("sourcery:Good").create("good", retrys=3)
    assert str(caught.value) == (
        "source 'good' from et-bert 0.1 cannot be built: got an unexpected keyword argument 'retrys'.\n"
        "  called: Good(retrys=)\n"
        "  takes:  Good(*, retries=0)\n"
        "What it has no use for may go to '**rest'."
    )


def test_an_error_inside_a_constructor_passes_through(site: Path) -> None:
    (site / "failing.py").write_text(
        "from et_core.interfaces import Source\n"
        "class Failing(Source):\n    def __init__(self):\n        len(3)\n"
        "    def resolve(self, ref):\n        return ref\n",
        "utf-8",
    )
    with pytest.raises(TypeError, match="object of type 'int' has no len"):
        source("failing:Failing").create("good")
