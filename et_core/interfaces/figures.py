"""What an evaluation can show besides numbers; the report draws these and knows no app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: ``counts[i][j]`` rows of the true label i were predicted as j."""

    title: str
    labels: Sequence[str]
    counts: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Scatter:
    """True against predicted values."""

    title: str
    x_label: str
    y_label: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Bars:
    """One figure for each of several names, such as the F1 of every label."""

    title: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Examples:
    """Rows of the data with what the model made of them, the most telling first."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


@dataclass(frozen=True)
class Graph:
    """A network as a picture: *nodes* by label, from input to output, and *edges* (from, to, label) by node number."""

    title: str
    nodes: Sequence[str]
    edges: Sequence[tuple[int, int, str]]
    note: str = ""


@dataclass(frozen=True)
class Point:
    """One of several that are weighed against each other. *group* says what it is; the *chosen* one is marked."""

    label: str
    x: float
    y: float
    group: str
    chosen: bool = False


@dataclass(frozen=True)
class Front:
    """Points of which a smaller x and a larger y are better, and the front of those that no other beats in both."""

    title: str
    x_label: str
    y_label: str
    points: Sequence[Point]
    note: str = ""


Figure = Matrix | Scatter | Bars | Examples | Graph | Front
