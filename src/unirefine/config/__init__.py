"""The config: pydantic models that define every option. Unknown keys are errors."""

from unirefine.config.benchmarks import Benchmark
from unirefine.config.data import (
    Cluster,
    Curate,
    Decontaminate,
    Expected,
    Records,
    Search,
    Shard,
    Split,
    Tools,
)
from unirefine.config.evaluation import Embed, Evaluate, Layout, Report
from unirefine.config.finetune import Finetune
from unirefine.config.load import Config, load_block, load_config, merge_configs, parse_config
from unirefine.config.release import Release, Run
from unirefine.config.text import parse_yaml
from unirefine.config.training import PRESETS, Model, Optimizer, Parallel, Sampling, Train

__all__ = [
    "PRESETS",
    "Benchmark",
    "Cluster",
    "Config",
    "Curate",
    "Decontaminate",
    "Embed",
    "Evaluate",
    "Expected",
    "Finetune",
    "Layout",
    "Model",
    "Optimizer",
    "Parallel",
    "Records",
    "Release",
    "Report",
    "Run",
    "Sampling",
    "Search",
    "Shard",
    "Split",
    "Tools",
    "Train",
    "load_block",
    "load_config",
    "merge_configs",
    "parse_config",
    "parse_yaml",
]
