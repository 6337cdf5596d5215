"""The conformance kit, over the core's own components."""

from __future__ import annotations

from et_core.conformance import (  # noqa: F401
    TestBinaryCrossEntropy,
    TestCrossEntropy,
    TestCrossEntropyOverTokens,
    TestMse,
    TestPretrained,
    TestWeightedBinaryCrossEntropy,
    TestWeightedCrossEntropy,
)
