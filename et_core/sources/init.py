from __future__ import annotations

from et_core.errors import RefError
from et_core.interfaces.artifact import Artifact
from et_core.interfaces.source import Source
from et_core.registry import ModelRef, registry


class InitSource(Source):
    """``family@init``: fresh weights of a registered backbone; its sizes are keys beside the reference."""

    def resolve(self, ref: ModelRef) -> Artifact:
        """UnknownNameError where no plugin registers the family."""
        if ref.revision:
            raise RefError(
                f"{str(ref)!r} has a revision, but fresh weights have none. Write '{ref.target}@init'; "
                f"sizes are keys beside the reference: {{ref: {ref.target}@init, num_layers: 2}}."
            )
        entry = registry("backbones").find(ref.target)
        family = entry.qualified if "/" in ref.target else entry.name
        return Artifact(ModelRef(family, ref.source), family, origin="fresh weights")
