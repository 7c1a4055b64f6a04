"""How rows are divided into files."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.release.leaves import Block, LeafSize, divide

_LEAVES = st.dictionaries(
    st.integers(0, 2_000), st.builds(LeafSize, st.integers(1, 9), st.integers(1, 60)), max_size=40
)


def _bounds(blocks: list[Block]) -> set[tuple[int, int]]:
    return {(block.first, block.end) for block in blocks}


@given(_LEAVES)
def test_every_leaf_is_in_one_block(leaves: dict[int, LeafSize]) -> None:
    """Blocks are in order and apart, and their rows and weights are those of their leaves."""
    blocks = divide(leaves, 100)
    assert all(one.end <= other.first for one, other in pairwise(blocks))
    for block in blocks:
        within = [size for leaf, size in leaves.items() if block.first <= leaf < block.end]
        assert (block.rows, block.weight) == (
            sum(size.rows for size in within),
            sum(size.weight for size in within),
        )
    assert sum(block.rows for block in blocks) == sum(size.rows for size in leaves.values())


@given(_LEAVES)
def test_blocks_are_the_largest_that_are_light_enough(leaves: dict[int, LeafSize]) -> None:
    """A block is a power of two wide, aligned, and light or a single leaf; the one twice as wide would be too heavy."""
    for block in divide(leaves, 100):
        width = block.end - block.first
        assert width & (width - 1) == 0
        assert block.first % width == 0
        assert block.weight <= 100 or width == 1
        first = block.first // (2 * width) * 2 * width
        both = sum(s.weight for leaf, s in leaves.items() if first <= leaf < first + 2 * width)
        assert width == 1 << 20 or both > 100


@given(_LEAVES.filter(bool), st.data())
def test_a_change_moves_only_its_own_boundaries(
    leaves: dict[int, LeafSize], data: st.DataObject
) -> None:
    """Blocks that do not hold a changed leaf, before or after, are as they were."""
    changed = data.draw(st.sampled_from(sorted(leaves)))
    grown = {**leaves, changed: LeafSize(1, leaves[changed].weight + data.draw(st.integers(0, 60)))}
    before, after = _bounds(divide(leaves, 100)), _bounds(divide(grown, 100))
    touched = {each for each in before ^ after if not each[0] <= changed < each[1]}
    # A block that the leaf has left, or a part of one that it was in.
    old = next(each for each in before if each[0] <= changed < each[1])
    assert all(old[0] <= first and end <= old[1] for first, end in touched)


def test_names_of_files_tell_what_they_hold() -> None:
    """A range of NCT ids, or of numbers of changes; `all` for everything."""
    assert Block(0, 1 << 20, 0, 0).named("id") == "all"
    assert Block(4, 8, 0, 0).named("nct_id") == "NCT00200000-NCT00399999"
    assert Block(1024, 2048, 0, 0).named("id") == "NCT51200000-NCT99999999"
    assert Block(2, 3, 0, 0).named("change_seq") == "000000100000-000000149999"
