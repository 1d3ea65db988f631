"""The programs for a GPU: without one they say so, and on a CPU the same code runs at a tiny size. No kernel runs."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import gpu_speed
import machine
import parity
import pytest
import run
import training
from forked import Forked

ROOT = Path(__file__).parents[2]
CASES = {"gpu-test": run.CASES, "gpu-bench": gpu_speed.CASES}


@pytest.mark.parametrize("name", CASES)
def test_without_a_gpu_nothing_is_run(name, capsys, tmp_path):
    arguments = ["--json", str(tmp_path / "figures.json")]
    assert machine.main(name, "", dict.fromkeys(CASES[name], pytest.fail), arguments) == machine.NO_GPU == 3
    assert f"{name}: no NVIDIA GPU here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_a_gpu_make_says_so():
    for target in CASES:
        done = subprocess.run(["make", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert "no NVIDIA GPU here" in done.stderr and "[Makefile" in done.stderr and "Error 3" in done.stderr, done


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_parity_on_a_cpu(precision, monkeypatch):
    monkeypatch.setattr(parity, "FORMS", ((precision, True),))
    found = run.CASES["parity-8M"]("cpu")
    form = found[f"{precision} packed"]
    assert (
        found["ok"] and form["attention"] == "SDPA" and form["worst_gradient"] < (1e-4 if precision == "fp32" else 0.2)
    )
    assert (form["logits"] < 1e-5) == (precision == "fp32"), "bf16 is rounded, fp32 is not"


def test_parity_notices_a_difference(monkeypatch):
    def wrong(source, model):
        convert.load_huggingface(source, model)
        model.encoder.layers[1].self_attention.linear_proj.bias.data[:8] += 0.5

    convert = parity.convert
    monkeypatch.setattr(parity, "FORMS", (("bf16", False),))
    monkeypatch.setattr(parity, "convert", SimpleNamespace(load_huggingface=wrong, own_tensors=convert.own_tensors))
    assert run.CASES["parity-8M"]("cpu")["ok"] is False


def test_speed_on_a_cpu():
    found = gpu_speed.measure(gpu_speed.CASES["650M-kernels"], "cpu")
    assert found["ok"] and found["tokens_per_second"] > 0 and 0 <= found["data_wait"] < 1
    assert found["micro_batches_a_step"] == gpu_speed.ACCUMULATED
    assert found["seconds_a_step"] * gpu_speed.STEPS * found["tokens_per_second"] == pytest.approx(
        gpu_speed.STEPS * gpu_speed.ACCUMULATED * 2 * 64, rel=0.1
    )
    assert found["loss"] < 4 and "mfu" not in found
    assert len(found["kernels_ms"]) == gpu_speed.KERNELS and "aten::mm" in found["kernels_ms"]


def test_stop_and_resume_on_a_cpu(monkeypatch):
    monkeypatch.setattr(training, "start", lambda arguments: Forked("unirefine", arguments))
    found = training.resume("cpu")
    assert found["ok"] and found["off"] == 0 and 7 <= found["stopped_after"] < found["steps"] == 30


@pytest.mark.parametrize(("losses", "ok"), [([3.0, 2.5], True), ([3.0, 2.7], False)])
def test_curves_are_compared(losses, ok, monkeypatch):
    monkeypatch.setattr(training, "train", lambda *_: 0)
    given = iter([[3.0, 2.5] * 20, losses * 20])
    monkeypatch.setattr(training, "losses", lambda _output: next(given))
    found = training.curves({"fp32": {"precision": "fp32"}, "bf16": {"precision": "bf16"}}, "cpu")
    assert found["ok"] is ok and found["fp32"]["off"] == 0
    assert found["bf16"]["off"] == pytest.approx(0 if ok else 2.85 / 2.75 - 1)


def test_cases_that_fail_or_find_no_time(tmp_path, capsys, monkeypatch):
    """A program with such cases, each in a process of its own."""
    script = tmp_path / "program.py"
    script.write_text(
        f"""
import sys, time
sys.path.insert(0, {str(ROOT / "tests/gpu")!r})
import machine
cases = {{"good": lambda _: {{"ok": True, "value": 0.5}}, "fails": lambda _: 1 / 0, "hangs": lambda _: time.sleep(60)}}
sys.exit(machine.main("trial", "", cases))
"""
    )
    monkeypatch.setattr(machine, "LEAST_S", 0)
    monkeypatch.setattr("sys.argv", [str(script)])
    results = machine.run(["good", "fails"], "cpu", 60) | machine.run(["hangs"], "cpu", 0.5)
    monkeypatch.setattr(machine, "LEAST_S", 10)
    results |= machine.run(["good2"], "cpu", 1)
    assert results["good"]["ok"] and results["good"]["value"] == 0.5
    assert results["fails"]["problem"] == "exit status 1" and "ZeroDivisionError" in results["fails"]["errors"][-1]
    assert results["hangs"]["problem"].startswith("took longer") and results["good2"]["problem"].startswith("not run")
    assert not any(results[name]["ok"] for name in ("fails", "hangs", "good2"))
    assert capsys.readouterr().out.splitlines()[0].startswith("ok  good: value 0.5")
