"""Data by name: `mnist`, `fashion-mnist`, `cifar10-jpeg`, image folders, or a function of the user.

This package imports only `models` (to load functions), `base` and `errors`. To add a data set, write a function
`Request -> Data` and name it in `secateur.data.load.DATASETS`.
"""

from secateur.data.batches import Batch, Batches, Data, Source
from secateur.data.load import DATASETS, load_data

__all__ = ["DATASETS", "Batch", "Batches", "Data", "Source", "load_data"]
