from __future__ import annotations

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from et_core.report.data import ReportData, as_yaml, clean
from et_core.report.html import environment
from et_core.report.tables import headline_split, metric_names, number
from et_core.runfolder import write_text

# The Hub knows licences by its own ids; anything else has to be declared as "other", with its name beside it.
_HUB_LICENSES = {
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "mpl-2.0", "zlib", "unlicense", "bsl-1.0",
    "ecl-2.0", "agpl-3.0", "gpl-2.0", "gpl-3.0", "lgpl-2.1", "lgpl-3.0", "epl-2.0", "eupl-1.2", "afl-3.0",
    "artistic-2.0", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
    "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "openrail",
    "bigscience-openrail-m", "gemma", "llama2",
}  # fmt: skip
_HUB_METRICS = {
    "accuracy": "accuracy", "f1": "f1", "precision": "precision", "recall": "recall", "mcc": "matthews_correlation",
    "auc": "roc_auc", "pearson": "pearsonr", "spearman": "spearmanr", "mse": "mse", "mae": "mae",
}  # fmt: skip
_HUB_REF = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)@hf(:.+)?")


def write_card(data: ReportData, path: Path) -> None:
    """Write a model card in Markdown, with the front matter that the Hub reads, to *path*, whole or not at all."""
    engine = environment(autoescape=False)
    engine.filters |= {"inline": _inline, "fence": _fence}
    text = engine.get_template("card.md.j2").render(
        data=data,
        front=as_yaml(front_matter(data)),
        names=metric_names(data.metrics),
        number=number,
        data_config=as_yaml(data.config["data"]) if data.config.get("data") else "",
        config=as_yaml(data.config) if data.config else "",
        license=data.model_license,
    )
    write_text(path, clean(re.sub(r"\n{3,}", "\n\n", text)).strip() + "\n")


def front_matter(data: ReportData) -> dict[str, Any]:
    """What the Hub indexes; a key whose value is not known is left out, because the Hub refuses a made-up one."""
    front = {
        **_license(data.model_license),
        # What loads in transformers says so in its usage.
        "library_name": "transformers" if "transformers" in data.usage else None,
        "pipeline_tag": data.pipeline_tag,
        "base_model": data.base_model or _hub_id(data.model),
        "metrics": _metrics(data.metrics),
        "tags": ["et", data.app],
    }
    return {key: value for key, value in front.items() if value}


def _license(name: str | None) -> dict[str, str]:
    if not name:
        return {}
    known = name.lower().removesuffix("-only").removesuffix("-or-later")
    return {"license": known} if known in _HUB_LICENSES else {"license": "other", "license_name": name}


def _hub_id(ref: str) -> str | None:
    found = _HUB_REF.fullmatch(ref)
    return found["repo"] if found else None


def _metrics(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    split = headline_split(metrics)
    names = metrics[split] if split else ()
    hub = [_HUB_METRICS.get(name) or _HUB_METRICS.get(re.split("[_/]", name)[0]) for name in names]
    return list(dict.fromkeys(name for name in hub if name))


def _inline(text: object) -> str:
    """*text* as plain words of one Markdown line or table cell, whatever it holds."""
    words = html.escape(" ".join(clean(str(text)).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", words)


def _fence(text: str, language: str = "") -> str:
    """A code block around *text*, with more backticks than *text* has in a row."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    mark = "`" * max(3, longest + 1)
    return f"{mark}{language}\n{text.strip()}\n{mark}"
