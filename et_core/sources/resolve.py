from __future__ import annotations

import re
from typing import Any

from et_core.errors import RefError
from et_core.interfaces.artifact import Artifact
from et_core.registry import ModelRef, close_names, plugins
from et_core.registry.hints import ProviderHints

_COMMIT = re.compile("[0-9a-f]{40}")


def resolve(ref: ModelRef | str) -> Artifact:
    """Find the files that *ref* stands for; its source decides how.

    RefError where the reference makes no sense, ArtifactError where its files are missing, broken or unsafe.
    """
    parsed = ModelRef.parse(ref)
    sources = plugins().registry("sources")
    if parsed.source not in sources:
        raise RefError(_unknown_source(parsed))
    found: Artifact = sources.create(parsed.source).resolve(parsed)
    return found


def leads_to(asked: str, found: str) -> bool:
    """Whether the reference *asked* may have been resolved to the canonical *found*, such as a name to a commit."""
    if not asked or not found:
        return False
    ref, canonical = ModelRef.parse(asked), ModelRef.parse(found)
    if (ref.target, ref.source) == (canonical.target, canonical.source):
        return ref.revision == canonical.revision or not _COMMIT.fullmatch(ref.revision or "")
    presets = plugins().registry("presets")
    if ref.source != "zoo" or ref.target not in presets:
        return False
    if canonical.source == "zoo":
        return canonical.target in presets and presets.find(canonical.target) == presets.find(ref.target)
    preset: Any = presets.get(ref.target)
    return canonical.source == "hf" and canonical.target in {provider.repo for provider in preset.providers}


def describe(artifact: Artifact) -> dict[str, Any]:
    """What ``et resolve`` shows of *artifact*, as JSON values."""
    return {
        "ref": str(artifact.ref),
        "family": artifact.family,
        "origin": artifact.origin,
        "license": artifact.license,
        "weights": [str(path) for path in artifact.weights],
        "bytes": sum(path.stat().st_size for path in artifact.weights),
        "tokenizer": None if artifact.tokenizer is None else str(artifact.tokenizer),
        "config": dict(artifact.config),
    }


def _unknown_source(ref: ModelRef) -> str:
    sources = plugins().registry("sources")
    names = sources.names()
    lines = [f"{str(ref)!r} names the unknown source {ref.source!r}. Sources: {', '.join(names) or 'none'}."]
    hint = ProviderHints(plugins()).explain(sources.kind, ref.source)
    close = close_names(ref.source, names, count=1)
    if hint:
        lines.append(hint)
    elif close:
        lines.append(f"Did you mean {str(ModelRef(ref.target, close[0], ref.revision))!r}?")
    elif not ref.revision and "/" in ref.target:
        lines.append(
            f"If {ref.source!r} is a revision, the source comes first: {str(ModelRef(ref.target, 'hf', ref.source))!r}."
        )
    return "\n".join(lines)
