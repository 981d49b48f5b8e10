"""The survey of `coverage.py`: each model in a separate process, by secateur and by Torch-Pruning."""
