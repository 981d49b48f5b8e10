"""The two sides of the recipe `torch-pruning`: functions of the same name in `theirs` and `ours` do the same job."""
