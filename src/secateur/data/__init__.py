"""Data by name: `mnist`, `fashion-mnist`, `cifar10-jpeg`, image folders, or a function of the user's own."""

from secateur.data.batches import Batch, Batches, Data, Source
from secateur.data.load import DATASETS, load_data

__all__ = ["DATASETS", "Batch", "Batches", "Data", "Source", "load_data"]
