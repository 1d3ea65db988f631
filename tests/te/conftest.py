"""A process that believes it has an H100: Megatron and Transformer Engine are built, no kernel runs.

Collected only by `tests/te/run.sh` (UNIREFINE_TE_TEST=1), in a separate process, because torch.cuda is patched.
"""

import os

collect_ignore_glob = []
if os.environ.get("UNIREFINE_TE_TEST") != "1":
    collect_ignore_glob.append("test_*.py")
else:
    os.environ["TORCHDYNAMO_DISABLE"] = "1"  # Megatron's fused functions run as they are written

    import types

    import pytest
    import torch

    H100 = types.SimpleNamespace(
        major=9, minor=0, name="NVIDIA H100 80GB HBM3", multi_processor_count=132, total_memory=80 << 30
    )
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 1
    torch.cuda.current_device = lambda: 0
    torch.cuda.synchronize = lambda device=None: None
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    torch.cuda.get_device_properties = lambda device=None: H100

    from unirefine.megatron import patches, platform

    import oracle
    from megatron.core import parallel_state
    from shard_fixture import shards  # noqa: F401 - a fixture
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from unirefine.config.training import Model, Parallel, Train
    from unirefine.model.esm2 import build_esm2

    def start(parallel: Parallel, rank: int) -> None:
        """Become rank `rank` of a world whose collectives do nothing, or the only rank of a real one."""
        stop()
        patches.apply()
        backend, store = ("fake", FakeStore()) if parallel.world > 1 else ("gloo", torch.distributed.HashStore())
        torch.distributed.init_process_group(backend, rank=rank, world_size=parallel.world, store=store)
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=parallel.tensor,
            pipeline_model_parallel_size=parallel.pipeline,
            context_parallel_size=parallel.context,
            create_gloo_process_groups=False,  # gloo would look for the other ranks
        )

    def stop() -> None:
        parallel_state.destroy_model_parallel()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    @pytest.fixture(scope="module")
    def build():
        """build(model, rank, layout, device="meta", data=1, **train options): this rank's Esm2 with the TE spec."""

        def builder(
            model: Model, rank: int = 0, *, device: str = "meta", layout: dict | None = None, data: int = 1, **options
        ):
            group = {"tensor": 1, "pipeline": 1, "context": 1} | (layout or {})
            world = data * group["tensor"] * group["pipeline"] * group["context"]
            parallel = Parallel(processes_per_node=world, **group)
            options = {"precision": "bf16", "global_batch": 16 * data, "micro_batch": 16} | options
            train = Train(model=model, parallel=parallel, **options)
            start(parallel, rank)
            assert platform.on_gpu()
            with oracle.on_meta():
                built = build_esm2(train.model, train, weights=False)
            return built if device == "meta" else built.to_empty(device=device)

        yield builder
        stop()
