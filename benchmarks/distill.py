"""Distillation: a fine-tuned MiniLM as the teacher, and the students that et makes of it.

A row of the table is a student on a data set: quality, size, FLOPs, latency, seconds of search and of training. The
students of a seed have a teacher of that seed, which is trained first where it is not there yet; what they keep is
counted against it. Each run is a process of its own, resumed where it was stopped; runs lie under --work, the figures
of finished ones in --output. Quality is that of the dev file for SST-2, STS-B and CoLA; MRPC and AG News have a test
file, which is looked at once, at the end, and a tenth of train as dev.

    python benchmarks/distill.py [--tasks sst2 mrpc ...] [--students teacher bag ...] [--seeds 42] [--limit ROWS]
    python benchmarks/distill.py --speed     # latencies of BERT-base, the teachers and the students kept, in turn
    python benchmarks/distill.py --table     # what is kept, as a table
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from _peer import measure_apart

ROOT = Path(__file__).resolve().parents[1]
LENGTH = 128
BATCHES = (1, 32)
SPEED = "speed of "
CALLS, SLOW_MS = 7, 3000


@dataclass(frozen=True)
class Task:
    """The example config of its teacher, the file that is reported on, its metrics, the deciding one first."""

    config: str
    train: str
    report_on: str
    metrics: tuple[str, ...]
    epochs: tuple[float, float]
    """Passes of a student over the rows, and over rows and new ones together."""

    copies: tuple[int, int, int]
    """New rows for each by embedding-neighbours, random-deletion and span-mixing."""

    batch_size: int = 128

    @property
    def augment(self) -> dict[str, Any]:
        names = ("embedding-neighbours", "random-deletion", "span-mixing")
        return {name: {"copies": copies} for name, copies in zip(names, self.copies, strict=True)}


TASKS = {
    "sst2": Task("sst2.yaml", "glue/SST-2/train.tsv", "glue/SST-2/dev.tsv", ("accuracy",), (3, 3), (1, 1, 1)),
    "mrpc": Task("mrpc.yaml", "glue/MRPC/train.tsv", "glue/MRPC/dev.tsv", ("f1", "accuracy"), (10, 2), (4, 2, 2), 64),
    "agnews": Task("agnews.yaml", "agnews/train.tsv", "agnews/test.tsv", ("accuracy", "macro-f1"), (8, 3), (2, 1, 1)),
    "stsb": Task(
        "stsb.yaml", "glue/STS-B/train.tsv", "glue/STS-B/dev.tsv", ("pearson", "spearman"), (10, 4), (2, 1, 1), 64
    ),
    "cola": Task("cola.yaml", "glue/CoLA/train.tsv", "glue/CoLA/dev.tsv", ("mcc", "accuracy"), (10, 4), (1, 1, 1)),
}

BERT = {"ref": "bert@init", "num_layers": 3, "hidden_size": 192, "num_heads": 12, "intermediate_size": 768}
KD = {"vanilla-kd": 0.8}
LEARNED = {**KD, "probes": {"weight": 0.4, "pooling": "mean"}}
BAG = {"model": {"ref": "adabert@init", "num_cells": 0}, "distill": {"terms": KD}}
RANDOM = {"model": {"ref": "adabert@init", "num_cells": 2, "cell": "random"}, "distill": {"terms": LEARNED}}
SEARCHED = {"model": {"ref": "adabert@init"}, "distill": {"terms": LEARNED}, "searched": True}
STUDENTS: dict[str, dict[str, Any]] = {
    "bag": BAG,
    "random": RANDOM,
    "vanilla-kd": {"model": BERT, "distill": {"terms": KD}},
    "pkd": {"model": BERT, "distill": {"terms": {**KD, "pkd": {"weight": 100.0, "layers": [2, 4]}}}},
    "probes": {"model": BERT, "distill": {"terms": {**KD, "probes": 0.8}}},
    "adabert": SEARCHED,
    "bag-da": {**BAG, "augmented": True},
    "random-da": {**RANDOM, "augmented": True},
    "adabert-da": {**SEARCHED, "augmented": True},
}
LR = {"bert@init": 5e-4, "adabert@init": 1e-3}
SEARCH = {"target": {"speedup": 8.5}, "train": {"max_steps": 800, "eval_every": "epoch"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--students", nargs="+", choices=["teacher", *STUDENTS], default=["teacher", *STUDENTS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[42])
    parser.add_argument("--limit", type=int, help="so many training rows, for ablations")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--work", type=Path, default=Path("runs/distill"))
    parser.add_argument("--output", type=Path, default=ROOT / "docs/distillation.jsonl")
    parser.add_argument("--speed", action="store_true", help="only the latencies of what is kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="only print what is kept")
    parser.add_argument("--one", nargs=3, metavar=("STUDENT", "TASK", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        student, task, seed = arguments.one
        print(json.dumps(measure(arguments, student, task, int(seed))))
    elif arguments.speed:
        compare_speed(arguments)
    elif not arguments.table:
        for task in arguments.tasks:
            for student in arguments.students:
                for seed in arguments.seeds:
                    keep(arguments, task, student, seed)
    if not arguments.one:
        print_table(read(arguments.output))


def keep(arguments: argparse.Namespace, task: str, student: str, seed: int) -> None:
    """Measure one run and add it to the output, unless it is there."""
    key = {"task": task, "student": student, "seed": seed, "limit": arguments.limit}
    if any(key.items() <= row.items() for row in read(arguments.output)):
        return
    options = ["--data", str(arguments.data), "--work", str(arguments.work)]
    options += ["--limit", str(arguments.limit)] if arguments.limit else []
    row = {**key, **measure_apart(__file__, "--one", student, task, str(seed), *options, quiet=False)}
    with arguments.output.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def measure(arguments: argparse.Namespace, student: str, task: str, seed: int) -> dict[str, Any]:
    """Train one student, or a teacher, and look at the file that is reported on."""
    report_on = str(arguments.data / TASKS[task].report_on)
    run = train(arguments, student, task, seed)
    found = run.evaluate(report_on)
    taught_by = None if student == "teacher" else train(arguments, "teacher", task, seed).evaluate(report_on)
    results = run.results
    folders = [run.path / "search", *sorted((run.path / "trials").glob("*"))]
    searches = [json.loads((path / "results.json").read_text("utf-8")) for path in folders if path.exists()]
    return {
        **{name: round(found[name], 4) for name in TASKS[task].metrics},
        "taught_by": taught_by and round(taught_by[TASKS[task].metrics[0]], 4),
        "parameters": results["parameters"],
        "disk_mb": round((run.folder.model / "model.safetensors").stat().st_size / 1e6, 1),
        "flops": flops(run.bundle.model, texts_of(run)),
        "search_seconds": round(sum(part["total_seconds"] for part in searches)) or None,
        "train_seconds": round(results["total_seconds"]),
        "cell": run.bundle.model.backbone.config({}).get("cell"),
        "num_cells": run.bundle.model.backbone.config({}).get("num_cells"),
        "notes": [*(searches[0]["notes"] if searches else []), *results["notes"]],
    }


def train(arguments: argparse.Namespace, student: str, task: str, seed: int) -> Any:
    """The finished run of a student, or of the teacher of a seed, gone on with where there is a part of it."""
    import et_core as et
    from et_core.config import load_config

    about, overrides, folder = TASKS[task], settings(arguments, task, seed), arguments.work
    name = f"{task}-{arguments.limit}" if arguments.limit and student != "teacher" else task
    path = folder / f"{name}-{student}-{seed}"
    config = ROOT / "examples" / about.config
    if isinstance(load_config(config).config.data.dev, str):
        overrides["data.dev"] = str(arguments.data / about.report_on)
    if student == "teacher":
        return et.train(config, {**overrides, "output": str(path)}, resume=path.exists(), progress=False)
    teacher = train(arguments, "teacher", task, seed)
    spec = STUDENTS[student]
    distill = {"teacher": f"{teacher.path.resolve()}@local", "labels": 0.2, **spec["distill"]}
    if spec.get("augmented"):
        distill["augment"] = about.augment
    model = dict(spec["model"])
    if model.get("cell") == "random":
        model["cell_seed"] = seed
    overrides |= {"output": str(path), "model": model, "distill": distill, "data.limit": arguments.limit}
    overrides |= {"train.epochs": about.epochs["augment" in distill], "train.batch_size": about.batch_size}
    overrides |= {"train.lr": LR[model["ref"]], "train.eval_every": "epoch"}
    if spec.get("searched"):
        overrides["search"] = SEARCH
    return et.distill(config, overrides, resume=path.exists(), progress=True)


def settings(arguments: argparse.Namespace, task: str, seed: int) -> dict[str, Any]:
    return {
        "data.train": str(arguments.data / TASKS[task].train),
        "train.seed": seed,
        "metrics": [f"et-appzoo/{name}" for name in TASKS[task].metrics],
    }


def texts_of(run: Any) -> int:
    """How many texts a row of its model's inputs has: two for a pair that is read as two."""
    reads_two = "text" not in run.bundle.model.backbone.accepts
    return 2 if reads_two and run.bundle.apps["main"].reads_pairs else 1


def batch_of(rows: int, texts: int) -> Any:
    import torch

    from et_core.interfaces import Batch, Inputs, Text

    ids = torch.full((rows, LENGTH // texts), 2023)
    text = Text(ids, torch.ones_like(ids, dtype=torch.bool))
    return Batch(Inputs((text,) * texts), {}, torch.arange(rows))


def flops(model: Any, texts: int) -> int:
    """Floating-point operations for one row of LENGTH tokens, as torch counts products."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(batch_of(1, texts))
    return int(counter.get_total_flops())


def compare_speed(arguments: argparse.Namespace) -> None:
    """Latencies in eager fp32 of the kept students of each task beside BERT-base and their teacher, in turn."""
    seed = arguments.seeds[0]
    rows = [row for row in read(arguments.output) if row["limit"] is None and row["seed"] == seed]
    for task in arguments.tasks:
        kept = {row["student"] for row in rows if row["task"] == task}
        students = [
            name
            for name in arguments.students
            if name in kept
            and SPEED + name not in kept
            and name != "teacher"
            and folder_of(arguments, task, name).exists()
        ]
        for name, found in measure_speed(arguments, task, students).items() if students else ():
            line = {"task": task, "student": SPEED + name, "seed": seed, "limit": None, **found}
            with arguments.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)


def folder_of(arguments: argparse.Namespace, task: str, student: str) -> Path:
    """The run whose latency is that of *student*: of the first seed."""
    return Path(arguments.work / f"{task}-{student}-{arguments.seeds[0]}")


def is_speed(row: Mapping[str, Any]) -> bool:
    return str(row["student"]).startswith(SPEED)


def measure_speed(arguments: argparse.Namespace, task: str, students: list[str]) -> dict[str, dict[str, float]]:
    """Milliseconds of a batch by student, its own and its peers'; medians of rounds in which all take turns."""
    import et_core as et

    runs = {name: et.load(folder_of(arguments, task, name), precision="fp32") for name in [*students, "teacher"]}
    models = {**{name: run.bundle.model.eval() for name, run in runs.items()}, "bert-base": bert_base().eval()}
    texts = {**{name: texts_of(run) for name, run in runs.items()}, "bert-base": 1}
    found: dict[str, dict[str, float]] = {name: {} for name in students}
    for size in BATCHES:
        own = {name: list(real_batches(arguments, run, task, size)) for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in models}
        own_times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(arguments.rounds):
            for name, model in models.items():
                times[name].append(milliseconds(model, [batch_of(size, texts[name])]))
            for name in runs:
                own_times[name].append(milliseconds(models[name], own[name]))
        for student in students:
            for column, name in (("student", student), ("teacher", "teacher"), ("bert-base", "bert-base")):
                found[student][f"{column}_ms_{size}"] = round(statistics.median(times[name]), 3)
                if name in own_times:
                    found[student][f"{column}_ms_{size}_own_length"] = round(statistics.median(own_times[name]), 3)
    return found


def real_batches(arguments: argparse.Namespace, run: Any, task: str, rows: int) -> Iterator[Any]:
    """Batches of the first 256 rows of the file that is reported on, in their order."""
    from et_core.data import ReadOptions, collate, open_rows

    data = run.config.data
    source = open_rows(
        str(arguments.data / TASKS[task].report_on),
        ReadOptions.of(data),
        roles=run.bundle.apps["main"].roles,
        need_targets=True,
    )
    examples = run.encode(source.take(range(256)))
    for start in range(0, len(examples), rows):
        yield collate(examples[start : start + rows], pad_id=run.bundle.tokenizer.pad_id)


def milliseconds(model: Any, batches: list[Any]) -> float:
    """The mean time of a batch, once the model is warm; of one batch, the median of seven calls, fewer where slow."""
    import torch

    with torch.inference_mode():
        model(batches[0])
        times: list[float] = []
        for batch in batches if len(batches) > 1 else batches * CALLS:
            if len(batches) == 1 and len(times) > 1 and sum(times) > SLOW_MS:
                break
            start = time.perf_counter()
            model(batch)
            times.append(1000 * (time.perf_counter() - start))
    return statistics.mean(times) if len(batches) > 1 else statistics.median(times)


def bert_base() -> Any:
    """BERT-base with a classifier and random weights: its speed does not depend on them."""
    from et_core.data import PretrainedTokenizer
    from et_core.interfaces import Model, build_backbone
    from et_core.sources import resolve

    tokenizer = PretrainedTokenizer.load(resolve("minilm-l6-en@zoo").tokenizer)
    backbone = build_backbone("bert", {}, tokenizer=tokenizer)
    head = backbone.native_head("sequence-classification", num_outputs=2)
    return Model(backbone, {"main": head})


def print_table(rows: list[dict[str, Any]]) -> None:
    """Quality and sizes by data set and student; then, where latencies are kept, these."""
    runs: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if not is_speed(row):
            runs.setdefault((row["task"], row["student"], row["limit"]), []).append(row)
    print(
        "\n| data | student | rows | seeds | metric | its teacher | % kept "
        "| parameters | MB | GFLOPs | search s | train s |\n"
        "|---|---|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    order = {(task, student): place for place, (task, student) in enumerate(product(TASKS, ["teacher", *STUDENTS]))}
    for (task, student, limit), found in sorted(runs.items(), key=lambda item: order[item[0][:2]]):
        metrics = TASKS[task].metrics
        cells = [
            task,
            student,
            limit or "all",
            len(found),
            " / ".join(spread([run[name] for run in found]) for name in metrics),
            *taught(found, metrics[0]),
            f"{mean(found, 'parameters') / 1e6:.2f} M",
            f"{mean(found, 'disk_mb'):.1f}",
            f"{mean(found, 'flops') / 1e9:.3f}",
            *(seconds(found, name) for name in ("search_seconds", "train_seconds")),
        ]
        print(f"| {' | '.join(map(str, cells))} |")
    print(
        "\n| data | student | ms (1) | ms (32) | x BERT-base | x teacher | own lengths, ms (1) | (32) | x teacher |\n"
        "|---|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    for row in sorted(filter(is_speed, rows), key=lambda row: order[row["task"], row["student"].removeprefix(SPEED)]):
        cells = [row["task"], row["student"].removeprefix(SPEED)]
        cells += [row[f"student_ms_{size}"] for size in BATCHES]
        cells += [ratios(row, name) for name in ("bert-base", "teacher")]
        cells += [row[f"student_ms_{size}_own_length"] for size in BATCHES]
        cells += [ratios(row, "teacher", "_own_length")]
        print(f"| {' | '.join(map(str, cells))} |")


def taught(runs: list[dict[str, Any]], metric: str) -> tuple[str, str]:
    """What the teachers of these runs came to, and how much of it the students keep, in percent."""
    known = [run for run in runs if run["taught_by"]]
    if not known:
        return "", ""
    kept = statistics.mean(100 * run[metric] / run["taught_by"] for run in known)
    return f"{mean(known, 'taught_by'):.4f}", f"{kept:.1f}"


def ratios(row: Mapping[str, Any], other: str, end: str = "") -> str:
    """How many times as long *other* takes, at each batch size."""
    return " / ".join(f"{row[f'{other}_ms_{size}{end}'] / row[f'student_ms_{size}{end}']:.1f}" for size in BATCHES)


def spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviation}"


def mean(runs: list[dict[str, Any]], name: str) -> float:
    return statistics.mean(run[name] for run in runs)


def seconds(runs: list[dict[str, Any]], name: str) -> str:
    known = [run[name] for run in runs if run[name] is not None]
    return f"{statistics.mean(known):.0f}" if known else ""


if __name__ == "__main__":
    main()
