"""Which checkpoint a run continues from when some are damaged."""

from unirefine.megatron import platform

import pytest

from unirefine.config import Train
from unirefine.config.training import Model, Parallel
from unirefine.errors import UserError
from unirefine.model import checkpoint
from unirefine.model.esm2 import build_esm2
from unirefine.train.saving import Saver

CONFIG = Train(
    model=Model(preset=None, layers=1, hidden=16, heads=2), precision="fp32", parallel=Parallel(processes_per_node=1)
)


def test_when_no_checkpoint_is_good_the_run_does_not_start_over(tmp_path, capsys):
    platform.initialize(Parallel(processes_per_node=1), seed=0)
    try:
        model = build_esm2(CONFIG.model, CONFIG)
        for step in (10, 20):
            checkpoint.save(tmp_path / f"step-000000{step}", model, extra={"step": step})
        (tmp_path / "step-00000020" / "complete.json").write_text("")
        (tmp_path / "step-00000010" / "common.pt").unlink()
        saver = Saver(tmp_path, model, None, CONFIG, {})
        with pytest.raises(UserError, match=r"step-00000010 is damaged: common\.pt: missing; no good"):
            saver.resume()
        warning = capsys.readouterr().err
        assert "step-00000020 is damaged: not valid JSON" in warning and "trying step-00000010" in warning
        with pytest.raises(UserError, match="no good checkpoint is left"):
            saver.resume()
    finally:
        platform.shutdown()
