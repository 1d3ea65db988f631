"""What a full release costs, by the sizes that were measured: known laws of growth are found again."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[3] / "bench"


@pytest.fixture(scope="module")
def scaling():
    sys.path.insert(0, str(BENCH))
    try:
        spec = importlib.util.spec_from_file_location("scaling", BENCH / "scaling.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCH))
    return module


def row(members, cpu):
    return {"members": members, "cpu": cpu, "wall": cpu / 2, "memory": 1, "disk": 1}


@pytest.mark.parametrize(
    ("law", "pairwise"),
    [
        (lambda n: 3 + 2e-5 * n, False),  # a fixed cost, then so much a member
        (lambda n: 1e-9 * n**1.25, False),
        (lambda n: 4e-5 * n + 2e-12 * n * n, True),
        (lambda n: 5 + 4e-5 * n, True),  # no square in sight
    ],
)
def test_a_law_of_growth_is_continued(scaling, law, pairwise):
    small, large = (row(n, law(n)) for n in (1_873_820, 9_369_101))
    assert scaling.full_release(small, large, pairwise) == pytest.approx(law(scaling.MEMBERS), rel=0.01)


def test_the_estimate_names_every_stage_and_adds_up(scaling):
    taken = {
        scale: {name: row(members, cost * members) for name, cost in (("split", 1e-5), ("decontaminate_search", 1e-3))}
        for scale, members in ((0.001, 187_382), (0.01, 1_873_820))
    }
    lines = scaling.estimate(taken)
    hours = [float(line.split()[-2].replace(",", "")) for line in lines if line.endswith("core-hours")]
    assert hours == pytest.approx([0.52, 52.05, 52.57], abs=0.01)  # of 187,382,018 members
    (one, many) = (next(line for line in lines if re.match(f" +{nodes} nodes", line)) for nodes in (1, 32))
    assert "48m48s of searches" in one and "(24 jobs of 16 threads, 4 at once)" in one  # 52.05 core-hours on 64 cores
    assert "24 at once" in many
