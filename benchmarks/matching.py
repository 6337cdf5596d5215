"""Text matching: the networks of et-hcnn against MiniLM as a cross-encoder and as two towers, all through et.

The table: quality, parameters, pairs a second in training and in prediction, seconds to train. Each run is a process of
its own and its figures are kept in --output, so that a stopped benchmark goes on where it was. Where a data set's
second file is a test set, the epoch is chosen on another one and the test file is looked at once, at the end.

Word vectors for English are MiniLM's own: each word by itself through the model, reduced to 300 dimensions by principal
components, and scaled to a mean length of one. For Chinese there are none, and vectors are learned.

    python benchmarks/matching.py [--tasks mrpc stsb bustm ocnli] [--models hcnn ... minilm] [--output matching.jsonl]
    python benchmarks/matching.py --speed [--rounds 3]        # hcnn and the cross-encoder in turn, on pairs of MRPC
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _peer import measure_apart

ROOT = Path(__file__).resolve().parents[1]
SIZE = 300
COLUMNS = {"text": "sentence1", "text_pair": "sentence2"}


@dataclass(frozen=True)
class Task:
    """A data set: its files, what the app is told, and the metrics of the table, the deciding one first."""

    train: str
    dev: str | float
    report_on: str
    metrics: tuple[str, ...]
    app: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    english: bool = True
    epochs: int = 8
    lr: float = 1e-3
    dropout: float = 0.2
    """How the networks learn; the best of a few settings on rows that were held out of train."""


FEW = "fewclue/{}/train_few_all.json", "fewclue/{}/dev_few_all.json", "fewclue/{}/test_public.json"
TASKS = {
    "mrpc": Task("glue/MRPC/train.tsv", 0.1, "glue/MRPC/dev.tsv", ("accuracy", "f1", "auc"), lr=3e-4, dropout=0.5),
    "stsb": Task(
        "glue/STS-B/train.tsv",
        "glue/STS-B/dev.tsv",
        "glue/STS-B/dev.tsv",
        ("pearson", "spearman"),
        app={"mode": "regression"},
        columns={"label": "score"},
    ),
    "bustm": Task(*(name.format("bustm") for name in FEW), ("accuracy", "auc"), english=False, epochs=30, dropout=0.5),
    "ocnli": Task(
        *(name.format("ocnli") for name in FEW), ("accuracy", "macro-f1"), english=False, epochs=30, dropout=0.5
    ),
}
NETWORKS = ("hcnn", "bicnn", "dam", "damplus")
MODELS = (*NETWORKS, "minilm", "minilm-towers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--vectors", type=Path, default=Path("minilm-words-300.txt"), help="made where it is absent")
    parser.add_argument("--output", type=Path, default=Path("matching.jsonl"))
    parser.add_argument("--speed", action="store_true", help="only the speed of hcnn and the cross-encoder, in turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=4, metavar=("MODEL", "TASK", "SEED", "ROWS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        model, task, seed, rows = arguments.one
        print(json.dumps(measure(arguments, model, TASKS[task], int(seed), int(rows))))
        return
    if not arguments.vectors.exists():
        write_vectors(arguments.vectors, english_texts(arguments.data))
    if arguments.speed:
        compare_speed(arguments)
        return
    for task in arguments.tasks:
        for model in arguments.models:
            for seed in arguments.seeds:
                keep(arguments, task, model, seed)
    print_table(read(arguments.output))


def keep(arguments: argparse.Namespace, task: str, model: str, seed: int) -> None:
    """Measure one run and add it to the output, unless it is there."""
    key = {"task": task, "model": model, "seed": seed}
    if not any(key.items() <= row.items() for row in read(arguments.output)):
        row = {**key, **child(arguments, model, task, seed, 0)}
        with arguments.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)


def child(arguments: argparse.Namespace, model: str, task: str, seed: int, rows: int) -> dict[str, Any]:
    options = ("--data", str(arguments.data), "--vectors", str(arguments.vectors))
    return measure_apart(__file__, "--one", model, task, str(seed), str(rows), *options, quiet=False)


def compare_speed(arguments: argparse.Namespace) -> None:
    """Pairs a second of hcnn and of the cross-encoder on MRPC, in turn; the slower one on fewer rows."""
    ratios: dict[str, list[float]] = {"train": [], "predict": []}
    for number in range(arguments.rounds):
        small, large = child(arguments, "hcnn", "mrpc", 42, 0), child(arguments, "minilm", "mrpc", 42, 1000)
        for what, found in ratios.items():
            found.append(small[what] / large[what])
            print(f"round {number + 1}, {what}: hcnn {small[what]:.0f} pairs/s, minilm {large[what]:.0f} pairs/s, "
                  f"ratio {found[-1]:.1f}", flush=True)  # fmt: skip
    for what, found in ratios.items():
        print(f"{what}: median ratio {statistics.median(found):.1f}, from {min(found):.1f} to {max(found):.1f}")


def settings(arguments: argparse.Namespace, model: str, task: Task) -> dict[str, Any]:
    """The model of a run and how it is trained: in fp32, everything else as each is used best."""
    if not model.startswith("minilm"):
        vectors = {"vectors": str(arguments.vectors.resolve()), "freeze_vectors": True} if task.english else {}
        return {
            "model": {"ref": f"{model}@init", "embedding_size": SIZE, "dropout": task.dropout, **vectors},
            "train": {"batch_size": 32, "epochs": task.epochs, "lr": task.lr},
        }
    towers = {"towers": 2} if model.endswith("towers") else {}
    return {
        "app": towers,
        "model": {"ref": "minilm-l6-en@zoo"},
        "train": {"epochs": 3 if task.english else 10, "batch_size": 16, "lr": 1e-4},
    }


def measure(arguments: argparse.Namespace, model: str, task: Task, seed: int, rows: int) -> dict[str, Any]:
    """Train *model* on *task* and measure it; with *rows* only on so many, for one epoch."""
    import et_core as et

    chosen = settings(arguments, model, task)
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "app": {"name": "matching", **task.app, **chosen.get("app", {})},
            "model": chosen["model"],
            "data": {
                "train": str(arguments.data / task.train),
                "dev": task.dev if isinstance(task.dev, float) else str(arguments.data / task.dev),
                "columns": {**COLUMNS, **task.columns},
                **({"limit": rows} if rows else {}),
            },
            "train": {**chosen["train"], "precision": "fp32", "seed": seed, **({"epochs": 1} if rows else {})},
            "output": f"{folder}/run",
        }
        run = et.train(config, progress=False)
        count = 1000 if model.startswith("minilm") else 4000
        source = pairs_file(Path(folder), arguments.data / task.report_on, count)
        written = run.predict_file(source, Path(folder) / "out.jsonl", keep=[])
        metrics = {} if rows else run.evaluate(str(arguments.data / task.report_on))
        return {
            **{name: metrics[name] for name in task.metrics if metrics},
            "parameters": run.results["parameters"],
            "train": run.results["rows_per_second"],
            "seconds": run.results["training_seconds"],
            "predict": round(written.rows / written.seconds, 1),
        }


def pairs_file(folder: Path, source: Path, count: int) -> Path:
    """A file of *count* pairs of *source*, over and over."""
    if source.suffix == ".json":
        pairs = [json.loads(line) for line in source.read_text("utf-8").splitlines()]
    else:
        header, *lines = (line.split("\t") for line in source.read_text("utf-8").rstrip("\n").split("\n"))
        pairs = [dict(zip(header, line, strict=True)) for line in lines]
    path = folder / "pairs.jsonl"
    rows = ({name: pairs[index % len(pairs)][name] for name in COLUMNS.values()} for index in range(count))
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), "utf-8")
    return path


def english_texts(data: Path) -> list[str]:
    """The training texts of the English tasks."""
    texts = []
    for task in TASKS.values():
        if task.english:
            lines = (data / task.train).read_text("utf-8").rstrip("\n").split("\n")[1:]
            texts += [text for line in lines for text in line.split("\t")[:2]]
    return texts


def write_vectors(path: Path, texts: list[str]) -> None:
    """Write a vector for each word of *texts*, in the format of word2vec."""
    import torch
    from _peer import minilm_folder
    from transformers import AutoModel, AutoTokenizer

    import et_core as et

    words_of = et.plugins().registry("tokenizers").get("words").fit(texts, vocab_size=100_000)
    words = [word for word in words_of.decode([[index] for index in range(words_of.vocab_size)]) if word.strip()]
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    model = AutoModel.from_pretrained(minilm_folder(), dtype=torch.float32).eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, len(words), 512):
            batch = tokenizer(words[start : start + 512], padding=True, return_tensors="pt")
            mask = batch["attention_mask"].unsqueeze(-1)
            parts.append(((model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)).numpy())
    vectors = np.concatenate(parts)
    vectors -= vectors.mean(0)
    _, _, axes = np.linalg.svd(vectors, full_matrices=False)
    reduced = vectors @ axes[:SIZE].T
    reduced /= np.linalg.norm(reduced, axis=1).mean()
    lines = (
        f"{word} {' '.join(f'{value:.5f}' for value in vector)}\n" for word, vector in zip(words, reduced, strict=True)
    )
    path.write_text(f"{len(words)} {SIZE}\n{''.join(lines)}", "utf-8")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def print_table(rows: list[dict[str, Any]]) -> None:
    for task in dict.fromkeys(row["task"] for row in rows):
        names = TASKS[task].metrics
        print(f"\n| {task} | {' | '.join(names)} | parameters | train, pairs/s | predict, pairs/s | seconds to train |")
        print("|---|" + "--:|" * (len(names) + 4))
        for model in MODELS:
            found = [row for row in rows if (row["task"], row["model"]) == (task, model)]
            if found:
                figures = [f"{np.mean([row[name] for row in found]):.4f}" for name in names]
                speeds = [np.median([row[name] for row in found]) for name in ("train", "predict", "seconds")]
                cells = [f"{found[0]['parameters'] / 1e6:.2f} M", *(f"{speed:,.0f}" for speed in speeds)]
                print(f"| {model} (seeds: {len(found)}) | {' | '.join([*figures, *cells])} |")


if __name__ == "__main__":
    main()
