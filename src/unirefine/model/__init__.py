"""ESM-2 on Megatron-core: the model (`esm2`), its checkpoints (`checkpoint`), Hugging Face conversion (`convert`)."""

import unirefine.megatron.uncompiled  # noqa: F401 - before anything imports Megatron
