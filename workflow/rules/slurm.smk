# After one lost node the Slurm plugin (2.8) excludes every node that the job had, and for a job that Slurm has put back into
# its queue `--exclude=None assigned`, so that nothing can be submitted any more. Slurm knows itself which nodes are down: what
# the plugin adds to its list is dropped, what `slurm-exclude-failed-nodes` names stays.

with contextlib.suppress(ImportError):
    from snakemake_executor_plugin_slurm import Executor

    Executor._failed_nodes = property(
        lambda executor: set(executor._excluded_nodes),
        lambda executor, nodes: setattr(executor, "_excluded_nodes", frozenset(nodes)),
    )
