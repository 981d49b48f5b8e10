"""What an `nn.Module` holds, read and written past its own code.

Tensors (`slots`), integers (`holders`), caches, masks, lists of layers, bypasses; how a model is called, seeded,
checked, and put back as it was. May import `base` and the values of `plan`; knows nothing of graphs.
"""
