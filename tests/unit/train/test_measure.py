"""What a run remembers of the machines that trained it."""

from unirefine.config import Train
from unirefine.core.summaries import trained_on
from unirefine.train.machine import Machine, hardware
from unirefine.train.measure import Progress

LAPTOP = Machine(0, "cpu", (0, 0), 16e9, 4, False, ("gloo",))
H100 = Machine(8, "NVIDIA H100 80GB HBM3", (9, 0), 80e9, 192, True, ("nccl",))


def test_hardware_is_recorded_once_for_each_change():
    config = Train.model_validate({"parallel": {"nodes": 2, "processes_per_node": 8}})
    small, large = hardware(Train(), LAPTOP), hardware(config, H100)
    progress = Progress()
    progress.start("snakemake -c4", small)
    progress.start("snakemake -c4", small)
    progress.step = 1200
    progress.start("snakemake -c4", large)
    progress.step = 1300
    progress.start("snakemake -c4", large)
    assert [(one["after_step"], one["gpu"], one["gpus"]) for one in progress.hardware] == [
        (0, None, 0),
        (1200, "NVIDIA H100 80GB HBM3", 16),
    ]
    first, then = trained_on({"hardware": progress.hardware})
    assert first.startswith("Trained on 4 cores of ") and " of memory, 8 processes; began 20" in first
    assert then.startswith("From step 1,201 on: 16 x NVIDIA H100 80GB HBM3, 2 nodes, each with 192 cores of ")


def test_a_model_of_an_older_version_has_no_machine():
    assert trained_on({"step": 20}) == []
