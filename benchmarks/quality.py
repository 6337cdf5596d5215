"""Quality on real data: et with the configs of examples/ against transformers.Trainer with the same settings.

Each run is a process of its own, and its figures are kept in --output, so that a stopped benchmark goes on where it
was. Where a data set's second file is a test set (MRPC), both choose their epoch on the same tenth of train and look
at the file once, at the end; elsewhere the dev file serves for both, as is the custom with GLUE.

    python benchmarks/quality.py [--tasks sst2 mrpc stsb cola] [--seeds 42 43 44] [--output quality.jsonl]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _peer import encode, make_trainer, measure_apart, minilm_folder

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Task:
    """The example config, the file that is reported on, and the metrics of the table, the deciding one first."""

    config: str
    report_on: str
    metrics: tuple[str, ...]


TASKS = {
    "sst2": Task("sst2.yaml", "SST-2/dev.tsv", ("accuracy",)),
    "mrpc": Task("mrpc.yaml", "MRPC/dev.tsv", ("accuracy", "f1")),
    "stsb": Task("stsb.yaml", "STS-B/dev.tsv", ("pearson", "spearman")),
    "cola": Task("cola.yaml", "CoLA/dev.tsv", ("mcc", "accuracy")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    parser.add_argument("--who", nargs="+", choices=["et", "trainer"], default=["et", "trainer"])
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/glue")
    parser.add_argument("--output", type=Path, default=Path("quality.jsonl"))
    parser.add_argument("--one", nargs=3, metavar=("WHO", "TASK", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        who, task, seed = arguments.one
        run = {"et": run_et, "trainer": run_trainer}[who]
        print(json.dumps(run(TASKS[task], int(seed), arguments.data, arguments.precision)))
        return
    done = read(arguments.output)
    for task in arguments.tasks:
        for seed in arguments.seeds:
            for who in arguments.who:
                if not any((row["task"], row["seed"], row["who"]) == (task, seed, who) for row in done):
                    row = {"task": task, "seed": seed, "who": who, **child(arguments, who, task, seed)}
                    with arguments.output.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                    print(row, flush=True)
    print_table(read(arguments.output))


def child(arguments: argparse.Namespace, who: str, task: str, seed: int) -> dict[str, Any]:
    options = ("--precision", arguments.precision, "--data", str(arguments.data))
    return measure_apart(__file__, "--one", who, task, str(seed), *options, quiet=False)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def print_table(rows: list[dict[str, Any]]) -> None:
    print("\n| task | metric | et | Trainer | seeds |\n|---|---|--:|--:|--:|")
    for task in dict.fromkeys(row["task"] for row in rows):
        for metric in TASKS[task].metrics:
            cells = [
                [row[metric] for row in rows if (row["task"], row["who"]) == (task, who)] for who in ("et", "trainer")
            ]
            shown = [f"{np.mean(cell):.4f}" if cell else "" for cell in cells]
            print(f"| {task} | {metric} | {' | '.join(shown)} | {max(map(len, cells))} |")


def run_et(task: Task, seed: int, data: Path, precision: str) -> dict[str, Any]:
    import et_core as et
    from et_core.config import load_config

    with tempfile.TemporaryDirectory() as folder:
        folder_of = data / Path(task.report_on).parent
        overrides: dict[str, Any] = {
            "train.seed": seed,
            "train.precision": precision,
            "output": f"{folder}/run",
            "data.train": str(folder_of / "train.tsv"),
        }
        config = ROOT / "examples" / task.config
        if isinstance(load_config(config).config.data.dev, str):
            overrides["data.dev"] = str(folder_of / "dev.tsv")
        start = time.perf_counter()
        run = et.train(config, overrides, progress=False)
        seconds = time.perf_counter() - start
        metrics = run.evaluate(str(data / task.report_on))
        return {**{name: metrics[name] for name in task.metrics}, "seconds": round(seconds, 1)}


def run_trainer(task: Task, seed: int, data: Path, precision: str) -> dict[str, Any]:
    from transformers import AutoTokenizer

    from et_core.config import load_config

    config = load_config(ROOT / "examples" / task.config).config
    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    regression = config.app.options.get("mode") == "regression"

    def encoded(items: list[list[str]]) -> Any:
        texts = [[item[index] for item in items] for index in range(len(items[0]) - 1)]
        labels = [float(item[-1]) if regression else int(item[-1]) for item in items]
        return encode(tokenizer, texts, labels, max_length=config.data.max_length)

    def score(result: Any) -> dict[str, float]:
        return figures(np.asarray(result.predictions), np.asarray(result.label_ids), regression=regression)

    train, dev = (encoded(items) for items in train_and_dev(task, seed, data, config.data.dev))
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(
            tokenizer,
            train,
            output=folder,
            num_labels=1 if regression else 2,
            precision=precision,
            settings=trainer_settings(task, seed, config.train),
            eval_dataset=dev,
            compute_metrics=score,
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        metrics = score(trainer.predict(encoded(read_rows(data / task.report_on))))
    return {**{name: float(metrics[name]) for name in task.metrics}, "seconds": round(seconds, 1)}


def train_and_dev(task: Task, seed: int, data: Path, dev: Any) -> tuple[list[list[str]], list[list[str]]]:
    """The rows to train on and to choose the epoch by: the share *dev* of train that et holds out, or the dev file."""
    rows = read_rows(data / Path(task.report_on).parent / "train.tsv")
    if not isinstance(dev, float):
        return rows, read_rows(data / task.report_on)
    order = np.random.default_rng((seed, 0)).permutation(len(rows))
    held = round(len(rows) * dev)
    return [rows[i] for i in np.sort(order[held:])], [rows[i] for i in np.sort(order[:held])]


def trainer_settings(task: Task, seed: int, train: Any) -> dict[str, Any]:
    """What the example config says, in the Trainer's words, and the best epoch by the deciding metric."""
    return {
        "num_train_epochs": train.epochs,
        "per_device_train_batch_size": train.batch_size,
        "per_device_eval_batch_size": 64,
        "learning_rate": train.lr,
        "warmup_steps": train.warmup,
        "weight_decay": train.weight_decay,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": task.metrics[0],
        "seed": seed,
    }


def read_rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text("utf-8").rstrip("\n").split("\n")[1:]]


def figures(outputs: np.ndarray, labels: np.ndarray, *, regression: bool) -> dict[str, float]:
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    if regression:
        values = outputs.reshape(-1)
        return {"pearson": pearsonr(values, labels).statistic, "spearman": spearmanr(values, labels).statistic}
    predicted = outputs.argmax(-1)
    scores = {"accuracy": accuracy_score, "f1": f1_score, "mcc": matthews_corrcoef}
    return {name: float(metric(labels, predicted)) for name, metric in scores.items()}


if __name__ == "__main__":
    main()
