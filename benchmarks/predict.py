"""Offline prediction: ``et predict`` against the transformers pipeline at its best batch size, in turn.

20,000 sentences of mixed length: SST-2 phrases and AG News texts, shuffled. Both use the same fine-tuned model and
read and write files. The pipeline's batch size and precision are the best found on a sample.

    python benchmarks/predict.py [--rows 20000] [--rounds 3] [--data ../shared/data]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _peer import measure_apart

BATCH_SIZES = (1, 8, 32, 128)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data")
    parser.add_argument("--rows", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=5, metavar=("WHO", "RUN", "INPUT", "BATCH", "DTYPE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        who, run, source, batch_size, dtype = arguments.one
        measure = {"et": run_et, "pipeline": run_pipeline}[who]
        print(json.dumps(measure(Path(run), Path(source), int(batch_size), dtype)))
        return
    if not arguments.data.is_dir():
        sys.exit(f"{arguments.data} is not there: give --data FOLDER with glue/SST-2 and agnews.")
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), arguments)


def compare(folder: Path, arguments: argparse.Namespace) -> None:
    texts = mixed_texts(arguments.data, arguments.rows)
    run = make_run(folder, arguments.data)
    everything, sample = write(folder / "all.tsv", texts), write(folder / "sample.tsv", texts[:1500])
    tried = {
        (size, dtype): child("pipeline", run, sample, size, dtype)["rows_per_second"]
        for size in BATCH_SIZES
        for dtype in ("float32", "bfloat16")
    }
    for (size, dtype), speed in tried.items():
        print(f"pipeline on {1500} rows, batch {size}, {dtype}: {speed:.0f} rows/s")
    size, dtype = max(tried, key=lambda key: tried[key])
    print(f"pipeline at its best: batch size {size}, {dtype}; {arguments.rows} rows")
    ratios = []
    for number in range(arguments.rounds):
        ours, theirs = child("et", run, everything, 0, dtype), child("pipeline", run, everything, size, dtype)
        ratios.append(ours["rows_per_second"] / theirs["rows_per_second"])
        agree = statistics.mean(a == b for a, b in zip(ours["labels"], theirs["labels"], strict=True))
        print(
            f"round {number + 1}: et {ours['rows_per_second']:.0f} rows/s, "
            f"pipeline {theirs['rows_per_second']:.0f} rows/s, "
            f"ratio {ratios[-1]:.2f}, same label on {agree:.2%}"
        )
    print(f"ratio of rows/s: median {statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}")


def mixed_texts(data: Path, count: int) -> list[str]:
    phrases = [
        line.rsplit("\t", 1)[0]
        for line in (data / "glue/SST-2/train.tsv").read_text("utf-8").rstrip("\n").split("\n")[1:]
    ]
    news = [
        line.rsplit("\t", 1)[0] for line in (data / "agnews/train.tsv").read_text("utf-8").rstrip("\n").split("\n")[1:]
    ]
    rng = random.Random(0)
    texts = rng.sample(phrases, count // 2) + rng.sample(news, min(len(news), count - count // 2))
    rng.shuffle(texts)
    return texts


def write(path: Path, texts: list[str]) -> Path:
    path.write_text("sentence\n" + "".join(f"{text}\n" for text in texts), "utf-8")
    return path


def make_run(folder: Path, data: Path) -> Path:
    import et_core as et

    config = {
        "app": "classification",
        "model": "minilm-l6-en@zoo",
        "data": {
            "train": str(data / "glue/SST-2/train.tsv"),
            "columns": {"text": "sentence", "label": "label"},
            "limit": 1000,
        },
        "train": {"epochs": 1},
        "output": str(folder / "run"),
    }
    return et.train(config, progress=False).path


def child(who: str, run: Path, source: Path, batch_size: int, dtype: str) -> dict[str, Any]:
    return measure_apart(__file__, "--one", who, str(run), str(source), str(batch_size), dtype)


def run_et(run: Path, source: Path, batch_size: int, dtype: str) -> dict[str, Any]:  # noqa: ARG001 - as the other
    import et_core as et

    output = source.with_suffix(".et.jsonl")
    loaded = et.load(run, precision={"float32": "fp32", "bfloat16": "bf16"}[dtype])
    start = time.perf_counter()
    written = loaded.predict_file(source, output, keep=["sentence"])
    seconds = time.perf_counter() - start
    labels = [json.loads(line)["prediction"] for line in output.read_text("utf-8").splitlines()]
    return {"rows_per_second": written.rows / seconds, "labels": labels}


def run_pipeline(run: Path, source: Path, batch_size: int, dtype: str) -> dict[str, Any]:
    import torch
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(run / "model"), dtype=getattr(torch, dtype))
    start = time.perf_counter()
    texts = source.read_text("utf-8").rstrip("\n").split("\n")[1:]
    found = list(classify((text for text in texts), batch_size=batch_size, top_k=None, truncation=True, max_length=128))
    with source.with_suffix(".pipeline.jsonl").open("w", encoding="utf-8") as output:
        for text, scores in zip(texts, found, strict=True):
            output.write(json.dumps({"sentence": text, "scores": scores}) + "\n")
    seconds = time.perf_counter() - start
    labels = [max(scores, key=lambda score: score["score"])["label"] for scores in found]
    return {"rows_per_second": len(texts) / seconds, "labels": labels}


if __name__ == "__main__":
    main()
