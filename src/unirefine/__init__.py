"""From a UniProt release to a trained, evaluated ESM-2."""

from pathlib import Path

from unirefine import numba_cache

__version__ = "0.2.0"

numba_cache.choose(Path(__file__).parent)  # before any module imports numba
