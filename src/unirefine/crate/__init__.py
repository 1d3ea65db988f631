"""A run as an RO-Crate of the Workflow Run Crate profile, by which registries and other groups read provenance."""

from unirefine.crate.run import write_crate

__all__ = ["write_crate"]
