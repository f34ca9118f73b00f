"""Why did it diverge, why does it lag? Findings with their evidence, from what a run has logged."""
