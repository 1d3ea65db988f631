"""Perplexities that others measured, beside ours."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from unirefine.config import Evaluate
from unirefine.errors import UserError
from unirefine.evaluate import elsewhere

PARITY = [{"model": "big", "ours": 7.05}, {"model": "mine", "ours": 6.2}, {"model": "other", "ours": 9.0}]


@pytest.fixture(autouse=True)
def sizes(monkeypatch):
    """`big` is a 650M, the others have no preset."""

    def find(path):
        return SimpleNamespace(model=lambda: SimpleNamespace(preset="650M" if path.name == "big" else None))

    monkeypatch.setattr(elsewhere, "find", find)


def judged(**values):
    models = {row["model"]: Path(row["model"]) for row in PARITY}
    config = Evaluate(elsewhere=values)
    return elsewhere.judge(PARITY, elsewhere.values_of(models, config), config.elsewhere_tolerance)


def test_ours_is_judged_by_preset_or_name():
    found = judged(**{"650M": 7.001, "mine": 6.003})
    assert [row["model"] for row in found] == ["big", "mine"]
    assert found[0]["agrees"] and found[0]["relative_difference"] == pytest.approx(7.05 / 7.001 - 1)
    assert not found[1]["agrees"]
    assert elsewhere.lines(found) == [
        "big: 7.050 here, 7.001 elsewhere (+0.70%): agrees within 1.0%",
        "mine: 6.200 here, 6.003 elsewhere (+3.28%): DIFFERS within 1.0%",
    ]
    assert judged() == []


def test_a_number_without_its_model_is_refused():
    with pytest.raises(UserError, match=r"evaluate\.elsewhere has 3B, which is none of the models"):
        judged(**{"3B": 6.003})
