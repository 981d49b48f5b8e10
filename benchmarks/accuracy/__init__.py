"""Accuracy of trained models after a cut by secateur and by Torch-Pruning, on real data."""
