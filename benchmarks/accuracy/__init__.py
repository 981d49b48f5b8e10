"""What is left of a trained model's accuracy after a cut: ours and Torch-Pruning's, on real data."""
