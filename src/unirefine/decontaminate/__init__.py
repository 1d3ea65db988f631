"""Train clusters similar to held-out ones go; what is left is searched again, more sensitively, and sampled exactly."""

from unirefine.decontaminate.audit import Audit, run_audit
from unirefine.decontaminate.prepare import Prepared, run_prepare
from unirefine.decontaminate.remove import Removal, read_searched, run_remove
from unirefine.decontaminate.search import Found, run_search

__all__ = [
    "Audit",
    "Found",
    "Prepared",
    "Removal",
    "read_searched",
    "run_audit",
    "run_prepare",
    "run_remove",
    "run_search",
]
