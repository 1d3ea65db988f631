"""The rank that writes a parameter of the distributed optimizer has a piece of it, and ranks write about as much."""

from unirefine.megatron.optimizer_state import Span, owners


def laid_out(sizes: list[int], ranks: int) -> list[Span]:
    """Parameters of these sizes end to end in one bucket."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    piece = -(-ends[-1] // ranks)
    return [Span(end - size, end, piece) for size, end in zip(sizes, ends, strict=True)]


def test_the_pieces_of_the_ranks_cover_the_parameter():
    for span in laid_out([7, 1, 40, 3, 9], ranks=7):
        covered = [i for rank in span.ranks() for i in range(100)[span.held_by(rank)]]
        assert covered == list(range(span.end - span.start))


def test_an_owner_has_a_piece():
    spans = laid_out([7, 1, 40, 3, 9], ranks=7)
    assert all(owner in span.ranks() for owner, span in zip(owners(spans, 7), spans, strict=True))


def test_big_matrices_of_many_buckets_go_to_different_ranks():
    """Each bucket begins with a matrix on the first ranks. The first rank must not write all of them."""
    spans = 10 * laid_out([26, 20, 7, 26], ranks=32)
    loads = [0] * 32
    for span, owner in zip(spans, owners(spans, 32), strict=True):
        loads[owner] += span.end - span.start
    assert max(loads) <= 2 * 26
