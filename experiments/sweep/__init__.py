"""Many runs: which, in what order, and by which workers."""
