"""A small data set of product reviews, and a first run on it: ``python -m et_appzoo.demo``."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

FILES = ("reviews.yaml", "reviews.train.tsv", "reviews.dev.tsv", "README.md")


def write_demo(folder: Path) -> Path:
    """Copy the demo's data and config into *folder* and return the path of the config."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        with resources.as_file(resources.files(__name__).joinpath(name)) as source:
            shutil.copyfile(source, folder / name)
    return folder / FILES[0]
