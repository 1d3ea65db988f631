"""Megatron-core and torch as this project needs them: GPU or CPU (`platform`), patches of their internals (`patches`).

Importing this package imports Megatron-core, without a GPU in the short way of `patches.import_megatron`. So it comes
before any `megatron.core`: ruff sorts it there, and tests/unit/megatron/test_import_order.py looks at every module.
"""

from unirefine.megatron import patches

patches.import_megatron()
