"""Train, look at the figures, predict and open the run again, from Python: python examples/python_api.py

Rows come from memory here; a path, a glob, a pandas.DataFrame or a datasets.Dataset serve as well.
"""

from __future__ import annotations

import sys
from typing import Any

import et_core as et

GOOD = ("works every day", "well made and quiet", "worth the money", "still going strong", "does what it says")
BAD = ("broke in a week", "loud and badly made", "a waste of money", "stopped after a day", "does nothing it says")
ROWS = [{"text": text, "label": "good"} for text in GOOD] + [{"text": text, "label": "bad"} for text in BAD]


def main(output: str = "runs/python-api", model: str = "minilm-l6-en@zoo") -> None:
    config: dict[str, Any] = {
        "app": "classification",
        "model": model,
        "data": {"train": ROWS * 8, "dev": 0.2},
        "train": {"epochs": 2, "lr": 1e-4, "batch_size": 8},
        "output": output,
    }
    run = et.train(config)
    print(run.metrics)

    again = et.load(output)
    for text, found in zip(GOOD, again.predict(list(GOOD)), strict=True):
        print(f"{found.prediction:<5} {max(found.probabilities.values()):.0%}  {text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
