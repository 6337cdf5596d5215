from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from et_appzoo.labelled import LabelledApp
from et_appzoo.labels import Labels, shown
from et_appzoo.matching.evaluation import MatchingEvaluation
from et_appzoo.matching.scoring import THRESHOLD, Scoring, best_threshold
from et_appzoo.matching.settings import check_settings, graded_names
from et_appzoo.pairs import joined, separate
from et_appzoo.scores import softmax
from et_appzoo.settings import Weights
from et_core.errors import ConfigError
from et_core.interfaces import Evaluation, Example, HeadSpec, LossSpec, Processor, Role, Row, Tokenizer
from et_core.registry import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from et_core.interfaces import Batch, Model

_RANKING = {
    name: f"et-appzoo/{name}" for name in ("map", "mrr", "recall-at-1", "recall-at-5", "recall-at-10", "ndcg-at-10")
}
_TOWERS = "et-appzoo/two-towers"


@dataclass(frozen=True)
class Matched:
    """*prediction* is a label or a number, *probabilities* are by label, none for a number or a cosine.

    *score* is what candidates are ranked by: the cosine, where two towers predict one of two labels or a number; else
    the probability of the positive label, the expected grade, or the number. None for three labels of which none is
    said to be positive.
    """

    prediction: str | float
    score: float | None
    probabilities: dict[str, float] | None


class Matching(LabelledApp):
    """Say whether two texts belong together, or how well, and rank candidates by it."""

    roles: ClassVar[Mapping[str, Role]] = {
        "text": Role(str, "the text"),
        "text_pair": Role(str, "the text that it is compared with"),
        "label": Role(object, "a label, a grade, or a number", target=True),
        "query": Role(object, "which rows are candidates of one query, to measure ranking", False, target=True),
    }
    prediction: ClassVar[type] = Matched
    kept_together: ClassVar[str | None] = "query"

    def __init__(
        self,
        *,
        mode: Literal["single-label", "graded", "regression"] = "single-label",
        labels: list[str] | None = None,
        positive_label: str | None = None,
        class_weights: Literal["balanced"] | Weights | None = None,
        label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        relevant_from: float | None = None,
        domains: list[str] | None = None,
        towers: Literal[1, 2] = 1,
        pooling: Literal["mean", "first", "pooled"] = "mean",
        projection_dim: Annotated[int, Field(gt=0)] | None = None,
        threshold: Literal["auto"] | Annotated[float, Field(ge=-1, le=1)] = "auto",
        dropout: Annotated[float, Field(ge=0, lt=1)] | None = None,
        head: str | None = None,
        loss: str | dict[str, Any] | None = None,
    ) -> None:
        """Settings that classification has mean the same here.

        *relevant_from* is the grade or number from which on a candidate is relevant. *domains* names the values of the
        role "domain", which a model that accepts marks is told. With *towers* of 2 each text gets a vector of its own,
        by *pooling* and *projection_dim*. Their cosine is the number, or decides between two labels: from *threshold*
        on, tuned on dev by accuracy where it is "auto". Between more labels, or grades, a layer over both decides.
        """
        check_settings(given := dict(locals()))
        names = graded_names(labels or ()) if mode == "graded" else labels or ()
        super().__init__(given, labels=Labels(mode, names=names, positive=positive_label))
        self._positive = positive_label
        self._relevant_from = relevant_from
        self._domains = list(domains or ())
        self._towers = towers
        self._pooling = pooling
        self._projection_dim = projection_dim
        self._threshold = threshold
        self._tuned: float | None = None
        self._queries = self._each_asks = False
        if domains:
            self.roles = {**type(self).roles, "domain": Role(str, "which of app.domains the pair is of")}
        self.pipeline_tag = "text-classification" if towers == 1 else "sentence-similarity"

    @property
    def needs(self) -> frozenset[str]:
        if self._towers == 1 or self._head is not None:
            return super().needs
        return frozenset({"towers", "pooled" if self._pooling == "pooled" else "tokens"})

    @property
    def marks(self) -> Mapping[str, int]:
        return {"domain": len(self._domains)} if self._domains else {}

    @property
    def gives_positives(self) -> bool:
        """Whether its targets say which pairs are a match, and what texts are equal, as in-batch-negatives needs."""
        return self._by_cosine and self.mode == "single-label"

    @property
    def kinds(self) -> tuple[str, ...]:
        own = ("single-label", "regression") if self.mode == "graded" else (self.mode,)
        return (*own, "ranking") if self._ranks else own

    @property
    def reads_pairs(self) -> bool:
        return True

    @property
    def text_roles(self) -> tuple[str, ...]:
        return ("text", "text_pair")

    def fit(self, rows: Iterable[Row]) -> None:
        self._queries = self._each_asks = False
        self.labels.fit(self._watch_queries(rows))
        self.weights()
        self._check_learned()

    def check(self, row: Row) -> None:
        super().check(row)
        self._query(row)
        self._domain(row)

    def state(self) -> dict[str, Any]:
        return {"labels": self.labels.state(), "threshold": self._tuned, "queries": self._queries}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.labels.load_state(state["labels"])
        self._tuned = state["threshold"]
        self._queries = state["queries"]

    def head(self) -> HeadSpec:
        if self._towers == 1:
            return super().head()
        spec = {
            "pooling": self._pooling,
            "projection_dim": self._projection_dim,
            "num_outputs": None if self._by_cosine else len(self.labels.names),
        }
        return HeadSpec("", self._head or _TOWERS, spec)

    def own_loss(self) -> LossSpec:
        if not self._by_cosine:
            return super().own_loss()
        if self.mode == "regression":
            low, high = self.labels.range or (0.0, 1.0)
            return LossSpec("et-appzoo/cosine-mse", {"low": low, "high": high})
        arguments = {"center": self._untuned, "weights": self.weights(), "smoothing": self._smoothing}
        return LossSpec("et-appzoo/cosine-cross-entropy", arguments)

    def encode(
        self,
        rows: Sequence[Row],
        tokenizer: Tokenizer,
        *,
        max_length: int,
        accepts: frozenset[str],
        truncation: str = "right",
        processor: Processor | None = None,
    ) -> list[Example]:
        inputs = joined if "text" in accepts and self._towers == 1 else separate
        texts, pairs = [row["text"] for row in rows], [row["text_pair"] for row in rows]
        encoded = inputs(texts, pairs, tokenizer, max_length, truncation)
        return [self._example(row, arrays) for row, arrays in zip(rows, encoded, strict=True)]

    def outputs(self, model: Model, batch: Batch) -> Mapping[str, Tensor]:
        found = super().outputs(model, batch)
        return found if self._towers == 1 else {name: found[name] for name in self._scoring.reads}

    def decode(self, outputs: Mapping[str, np.ndarray], examples: Sequence[Example]) -> list[Matched]:
        logits, scores = self._scoring.logits(outputs), self._scoring.scores(outputs)
        ranked = [None] * len(logits) if scores is None else scores.round(6).tolist()
        if self.mode == "regression":
            return [Matched(value, score, None) for value, score in zip(logits[:, 0].tolist(), ranked, strict=True)]
        names = self.labels.names
        best = logits.argmax(1)
        if self._by_cosine:
            return [Matched(names[index], score, None) for index, score in zip(best, ranked, strict=True)]
        rows = softmax(logits).round(6).tolist()
        return [
            Matched(names[index], score, dict(zip(names, row, strict=True)))
            for index, score, row in zip(best, ranked, rows, strict=True)
        ]

    def evaluation(self, metrics: Sequence[str] | None = None) -> Evaluation:
        chosen = self.chosen_metrics(metrics)
        return MatchingEvaluation(
            scoring=self._scoring,
            metrics=chosen,
            kinds=self.kinds,
            # A finished run may be measured on candidates, though it was trained on pairs of no query.
            ranking={} if self._ranks else _RANKING,
            domains=self._domains,
            tuned=self._tuned is not None,
        )

    def calibrate(self, evaluation: Evaluation) -> bool:
        tunes = self.gives_positives and self._threshold == "auto"
        if not tunes or not isinstance(evaluation, MatchingEvaluation) or not evaluation.has_both_labels:
            return False
        self._tuned = best_threshold(evaluation.cosines)
        return True

    def default_metrics(self) -> list[str]:
        own = super().default_metrics()
        if self.mode == "graded":
            own = ["accuracy", "spearman", "macro-f1"]
        elif self.gives_positives:
            # No threshold is tuned before the end of training, and AUC needs none.
            own = ["auc", "accuracy", "f1", "mcc"]
        return [*own, *_RANKING] if self._ranks else own

    def misfit(self, modes: frozenset[str]) -> str:
        if "ranking" not in modes:
            return super().misfit(modes)
        if not self._scoring.ranks:
            return "ranks candidates by one of the labels: say which with app.positive_label."
        return (
            "ranks the candidates of each query: say which column tells queries apart with data.columns.query=COLUMN."
        )

    def embedded_roles(self) -> Mapping[str, Role]:
        if self._towers == 1:
            raise ConfigError(
                "this run reads two texts together (app.towers=1), so that one alone has no vector. "
                "Train with app.towers=2 for vectors."
            )
        return {"text": self.roles["text"]}

    def encode_single(
        self, rows: Sequence[Row], tokenizer: Tokenizer, *, max_length: int, truncation: str = "right"
    ) -> list[Example]:
        encoded = separate([row["text"] for row in rows], None, tokenizer, max_length, truncation)
        return [Example(arrays, {}, row.index) for row, arrays in zip(rows, encoded, strict=True)]

    def vectors(self, model: Model, batch: Batch) -> Tensor:
        vectors: Tensor = model(batch)["first"]
        return vectors

    @property
    def _ranks(self) -> bool:
        return self._queries and self._scoring.ranks

    @property
    def _by_cosine(self) -> bool:
        two = self.mode == "single-label" and len(self.labels.names) <= 2
        return self._towers == 2 and (two or self.mode == "regression")

    @property
    def _untuned(self) -> float:
        return THRESHOLD if self._threshold == "auto" else self._threshold

    @property
    def _scoring(self) -> Scoring:
        names = self.labels.names
        positive = len(names) - 1 if len(names) == 2 or self._positive is not None else None
        return Scoring(
            mode=self.mode,
            names=names,
            positive=positive,
            span=self.labels.range or (0.0, 1.0),
            by_cosine=self._by_cosine,
            threshold=self._untuned if self._tuned is None else self._tuned,
            relevant_from=self._relevant_from,
        )

    def _example(self, row: Row, arrays: dict[str, np.ndarray]) -> Example:
        targets: dict[str, np.ndarray] = {}
        domain = self._domain(row)
        if domain is not None:
            arrays["marks.domain"] = np.full(len(arrays["texts.0.ids"]), domain, np.int64)
        if "label" in row:
            targets = {"label": self.labels.target(row), "query": np.asarray(self._query(row), np.int64)}
            if domain is not None:
                targets["domain"] = np.asarray(domain, np.int64)
            if self.gives_positives:
                targets["positive"] = np.asarray(targets["label"] == 1, np.int64)
                targets["first"] = np.asarray(_hash(row["text"]), np.int64)
                targets["second"] = np.asarray(_hash(row["text_pair"]), np.int64)
        return Example(arrays, targets, row.index)

    def _domain(self, row: Row) -> int | None:
        if not self._domains:
            return None
        name = str(row["domain"]).strip()
        if name not in self._domains:
            raise row.error(
                "domain",
                f"holds {name!r}.\nKnown domains: {shown(self._domains)}.{did_you_mean(name, self._domains)}\n"
                "Correct it, add it to app.domains, or leave bad rows out with data.on_bad_row=skip.",
            )
        return self._domains.index(name)

    def _query(self, row: Row) -> int:
        """A number that the candidates of one query share; 0 where the data names no queries."""
        value = row.get("query", "")
        if isinstance(value, (Mapping, list, tuple)):
            raise row.error(
                "query",
                f"holds {value!r}, which names no query.\nWrite a name or a number, or leave bad rows out with "
                "data.on_bad_row=skip.",
            )
        name = str(value).strip()
        # A file without such a column is one of pairs alone, which may be measured on.
        if not name and ("query" in row or (self._each_asks and ("query" in row.columns or not row.columns))):
            raise row.error(
                "query",
                "is empty.\nName the query that the row is a candidate of, or leave bad rows out with "
                "data.on_bad_row=skip.",
            )
        return _hash(name) if name else 0

    def _watch_queries(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            self._query(row)
            self._queries = self._each_asks = self._queries or "query" in row
            yield row

    def _check_learned(self) -> None:
        names = self.labels.names
        if len(names) > 2 and self._threshold != "auto":
            raise ConfigError(
                f"app.threshold is a cosine, which tells two labels apart, not {len(names)}: {shown(names)}. "
                "Leave it out."
            )
        if self.labels.range and self.labels.range[0] == self.labels.range[1] and self._towers == 2:
            raise ConfigError(
                f"every label of the training data is {self.labels.range[0]:g}, so that there is no range to scale the "
                "cosine to. Check data.columns.label."
            )
        lowest, highest = self._scoring.extent
        if self._relevant_from is not None and not lowest < self._relevant_from <= highest:
            raise ConfigError(
                f"app.relevant_from is {self._relevant_from:g}, but the training data has labels from {lowest:g} to "
                f"{highest:g}. Give a number above the lowest of them, and up to the highest."
            )


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), signed=True)
