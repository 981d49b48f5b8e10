"""The survey of `coverage.py`: one model at a time, in a process of its own, by us and by Torch-Pruning."""
