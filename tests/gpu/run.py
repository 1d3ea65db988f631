"""Does the GPU path compute what EsmForMaskedLM computes, does it train, stop and continue?

`make gpu-test`. Exit status: 0; 1 when something is off; 3 without an NVIDIA GPU.
"""

import sys
from functools import partial
from typing import Any

import machine


def parity(preset: str, device: str) -> dict[str, Any]:
    import parity

    return parity.case(preset, device)


def curves(device: str) -> dict[str, Any]:
    import training

    return training.curves(training.variants(device), device)


def resume(device: str) -> dict[str, Any]:
    import training

    return training.resume(device)


CASES: dict[str, machine.Case] = {
    "parity-8M": partial(parity, "8M"),
    "parity-650M": partial(parity, "650M"),
    "curves": curves,
    "resume": resume,
    "parity-35M": partial(parity, "35M"),
    "parity-150M": partial(parity, "150M"),
}

if __name__ == "__main__":
    sys.exit(machine.main("gpu-test", __doc__, CASES))
