from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from et_core.interfaces.artifact import Artifact

if TYPE_CHECKING:
    from et_core.registry import ModelRef


class Source(ABC):
    """Where models come from: the part of a reference after the '@'."""

    @abstractmethod
    def resolve(self, ref: ModelRef) -> Artifact:
        """Find the files behind *ref*, fetching them if need be.

        RefError where the reference makes no sense here; ArtifactError where nothing is found, saying each place that
        was tried and how to fill one.
        """
