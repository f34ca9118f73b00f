"""What came out: statistics and figures from the ledger and from results/paper, nothing else."""
