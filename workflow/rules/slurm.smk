# Lost nodes on Slurm.

keep_nodes_in_slurm()
