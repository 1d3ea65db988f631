"""Groups by single linkage over a search of all against all."""

import numpy as np

from unirefine.core.alphabet import AMINO_ACIDS
from unirefine.similarity.linkage import search_all, single_linkage


def test_a_chain_of_neighbours_is_one_group_though_its_ends_are_not_alike(tmp_path):
    rng = np.random.default_rng(2)
    residues = "".join(rng.choice(list(AMINO_ACIDS), 600))
    chain = [residues[at : at + 200] for at in range(0, 401, 25)]
    sequences = [*chain, *("".join(rng.choice(list(AMINO_ACIDS), 200)) for _ in range(20)), chain[3]]
    pairs = search_all(sequences, tmp_path / "search", "test")
    ends = pairs.filter((pairs["query"] == 0) & (pairs["target"] == len(chain) - 1))
    assert not ends.height
    group = single_linkage(sequences, pairs, 0.3, 0.8)
    assert group.tolist() == [*[0] * len(chain), *range(1, 21), 0]
    assert not list(tmp_path.iterdir())
