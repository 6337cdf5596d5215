"""Fine-tune on the demo reviews, show the figures, predict three sentences, and say what to try next."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

import et_core as et
from et_appzoo.demo import write_demo
from et_core.log import show_log
from et_core.report import metrics_table

SENTENCES = (
    "Arrived a day early and has worked every single morning since.",
    "The zip broke on the second trip and nobody answers my emails.",
    "Cheap, cheerful and still going strong after two years.",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m et_appzoo.demo", description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path("demo"), help="where data and run go (default: demo)"
    )
    parser.add_argument("--model", default="minilm-l6-en@zoo", help="model reference (default: %(default)s)")
    arguments = parser.parse_args()
    show_log()
    console = Console()
    try:
        _run(arguments.folder, arguments.model, console)
    except et.EtError as error:
        parser.exit(2, f"et: {error}\n")


def _run(folder: Path, model: str, console: Console) -> None:
    config = write_demo(folder)
    output = _free(folder / "runs", "reviews")
    overrides = {
        "model": model,
        "output": str(output),
        "data.train": str(folder / "reviews.train.tsv"),
        "data.dev": str(folder / "reviews.dev.tsv"),
    }
    console.print(f"Fine-tuning {model} on 480 product reviews ...")
    run = et.train(config, overrides, progress=True)
    console.print(metrics_table(run.results["metrics"]))
    table = Table("prediction", "sure", "sentence", box=None, header_style="bold")
    for sentence, found in zip(SENTENCES, run.predict(list(SENTENCES)), strict=True):
        table.add_row(found.prediction, f"{max(found.probabilities.values()):.0%}", sentence)
    console.print(table)
    console.print(f"\nReport:    {run.report}\nModel:     {run.folder.model}\n\nTry next:", highlight=False)
    for line in (
        f"et predict {run.path} --input {folder / 'reviews.dev.tsv'} --output predictions.jsonl",
        f"et train {config} output={folder / 'runs'}/longer train.epochs=10 data.train={folder / 'reviews.train.tsv'} "
        f"data.dev={folder / 'reviews.dev.tsv'}",
        f"et train app=classification model={model} data.train=YOUR.tsv data.dev=0.1 data.columns.text=COLUMN",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)


def _free(folder: Path, name: str) -> Path:
    """A run folder that does not exist yet, so that the demo can be run again."""
    path, number = folder / name, 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}"
    return path


main()
