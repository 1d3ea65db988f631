"""ESM-2 on Megatron-core: the model (`esm2`), its checkpoints (`checkpoint`), Hugging Face conversion (`convert`)."""

import unirefine.megatron  # noqa: F401 - before any module here imports Megatron
