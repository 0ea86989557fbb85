"""What a cluster allows, asked before anything is sent to it: its partitions, nodes, accounts and qualities of service.

Where SLURM does not answer such a question, nothing is refused: sbatch has the last word.
"""
