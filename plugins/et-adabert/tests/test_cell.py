from __future__ import annotations

import pytest

from et_adabert.student.cell import EDGES, KEPT, Cell
from et_core.errors import ConfigError

PUBLISHED = ["conv7(0) + dilated5(1)", "conv7(0) + dilated5(1)", "conv3(1) + dilated3(3)"]
"""The cell that PaddleSlim fixes for MRPC."""


def test_a_cell_is_read_as_it_is_written() -> None:
    assert Cell.read(PUBLISHED).written() == PUBLISHED
    assert Cell.read(["conv7( 0 )+dilated5(1)", *PUBLISHED[1:]]).written() == PUBLISHED


def test_there_are_nine_edges() -> None:
    assert EDGES == ((0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 4), (1, 4), (2, 4), (3, 4))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (PUBLISHED[:2], "model.cell has 2 nodes: a cell has 3"),
        (["conv7", *PUBLISHED[1:]], "node 2 is 'conv7'. Write a sum of OPERATION"),
        (["convv7(0)", *PUBLISHED[1:]], "node 2 has the operation 'convv7'. Did you mean 'conv7'?"),
        (["conv7(2)", *PUBLISHED[1:]], "node 2 reads node 2. It can read those before it: 0 to 1"),
        ([*PUBLISHED[:2], "skip(9)"], "node 4 reads node 9. It can read those before it: 0 to 3"),
    ],
)
def test_what_is_no_cell_is_refused_in_words(cell: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Cell.read(cell)
    assert message in str(caught.value)


def test_a_random_cell_has_two_sources_a_node_and_no_edge_of_nothing() -> None:
    cells = [Cell.random(seed) for seed in range(50)]
    for cell in cells:
        for node in cell.nodes:
            assert len({edge.source for edge in node}) == KEPT
            assert all(edge.operation != "none" for edge in node)
    assert len({tuple(cell.written()) for cell in cells}) == len(cells)
    assert Cell.random(7) == Cell.random(7)
