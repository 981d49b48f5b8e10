"""Which units go: the greatest sum of scores that meets all targets. Knows counts, scores and costs, and no tensors."""
