"""ESM-2 on Megatron-core: the model (`esm2`), its checkpoints (`checkpoint`), Hugging Face conversion (`convert`)."""

import warnings

# Megatron warns at import about each optional CUDA package that is missing; on a CPU none of them can be there.
warnings.filterwarnings("ignore", module=r"megatron\.core")
