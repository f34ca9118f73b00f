"""Which optimizer for this model: both tuned alike, judged on fresh seeds, for any program."""
