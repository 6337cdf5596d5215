"""Training throughput: et against transformers.Trainer at its best, in turn, on the same model, data and batch size.

Each run is a process of its own. The Trainer gets what it offers for speed: fused AdamW, batches grouped by length,
padding to the longest row of a batch, no logging, no saving, and the faster of fp32 and bf16, which is measured first.

    python benchmarks/finetune.py [--rows 6000] [--rounds 3] [--data ../shared/data/glue/SST-2]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _peer import encode, make_trainer, measure_apart, minilm_folder

LR, BATCH, EPOCHS, LENGTH = 1.0e-4, 32, 1, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data/glue/SST-2")
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=["et", "trainer"], help=argparse.SUPPRESS)
    parser.add_argument("--precision", default="auto", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        run = {"et": run_et, "trainer": run_trainer}[arguments.one]
        print(json.dumps(run(arguments.data, arguments.rows, arguments.precision)))
        return
    if not arguments.data.is_dir():
        sys.exit(f"{arguments.data} is not there: give --data FOLDER with train.tsv and dev.tsv (sentence, label).")
    best = max(("fp32", "bf16"), key=lambda p: child(arguments, "trainer", p, rows=1200)["rows_per_second"])
    print(f"the Trainer is faster in {best} here; {arguments.rows} rows, batch {BATCH}, {os.cpu_count()} cores")
    pairs = []
    for number in range(arguments.rounds):
        ours, theirs = child(arguments, "et", "auto"), child(arguments, "trainer", best)
        pairs.append((ours, theirs))
        ratio = ours["rows_per_second"] / theirs["rows_per_second"]
        print(
            f"round {number + 1}: et {ours['rows_per_second']:.1f} rows/s "
            f"({ours['precision']}, accuracy {ours['accuracy']:.4f}), "
            f"Trainer {theirs['rows_per_second']:.1f} rows/s (accuracy {theirs['accuracy']:.4f}), ratio {ratio:.2f}"
        )
    ratios = [ours["rows_per_second"] / theirs["rows_per_second"] for ours, theirs in pairs]
    print(f"ratio of rows/s: median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")
    for name, index in (("et", 0), ("Trainer", 1)):
        print(f"accuracy of {name}: mean {statistics.mean(pair[index]['accuracy'] for pair in pairs):.4f}")


def child(arguments: argparse.Namespace, who: str, precision: str, *, rows: int | None = None) -> dict[str, Any]:
    data = ("--data", str(arguments.data), "--rows", str(rows or arguments.rows))
    return measure_apart(__file__, "--one", who, "--precision", precision, *data)


def run_et(data: Path, rows: int, precision: str) -> dict[str, Any]:
    import et_core as et

    with tempfile.TemporaryDirectory() as folder:
        config = {
            "app": "classification",
            "model": "minilm-l6-en@zoo",
            "data": {
                "train": str(data / "train.tsv"),
                "dev": str(data / "dev.tsv"),
                "columns": {"text": "sentence", "label": "label"},
                "limit": rows,
                "max_length": LENGTH,
            },
            "train": {"epochs": EPOCHS, "batch_size": BATCH, "lr": LR, "precision": precision, "keep_best": None},
            "output": f"{folder}/run",
        }
        run = et.train(config, progress=False)
        results = run.results
        return {
            "rows_per_second": results["rows_per_second"],
            "precision": results["precision"],
            "accuracy": run.metrics["accuracy"],
        }


def run_trainer(data: Path, rows: int, precision: str) -> dict[str, Any]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
    settings = {
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": BATCH,
        "learning_rate": LR,
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        "logging_strategy": "no",
        "save_strategy": "no",
        "seed": 42,
    }
    with tempfile.TemporaryDirectory() as output:
        train = read(data / "train.tsv", rows, tokenizer)
        trainer = make_trainer(tokenizer, train, output=output, num_labels=2, precision=precision, settings=settings)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        # The Trainer groups by length here too, so its labels are in the order of its predictions, not of the file.
        result = trainer.predict(read(data / "dev.tsv", None, tokenizer))
        accuracy = float((result.predictions.argmax(-1) == result.label_ids).mean())
    return {"rows_per_second": rows * EPOCHS / seconds, "precision": precision, "accuracy": accuracy}


def read(path: Path, limit: int | None, tokenizer: Any) -> Any:
    """The encoded rows of *path*: all, or as many as *limit* says, the ones that et chooses."""
    import numpy as np

    lines = path.read_text("utf-8").rstrip("\n").split("\n")[1:]
    if limit is not None:
        chosen = np.random.default_rng((42, 1)).choice(len(lines), limit, replace=False)
        lines = [lines[index] for index in np.sort(chosen)]
    texts, labels = zip(*(line.rsplit("\t", 1) for line in lines), strict=True)
    return encode(tokenizer, [list(texts)], [int(label) for label in labels], max_length=LENGTH)


if __name__ == "__main__":
    main()
