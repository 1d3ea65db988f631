"""From a UniProt release to a trained, evaluated ESM-2."""

__version__ = "0.1.0"
