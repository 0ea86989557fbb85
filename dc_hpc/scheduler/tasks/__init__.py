"""What becomes of the tasks of a cluster: how they end and why, and what they start beside their runs."""
