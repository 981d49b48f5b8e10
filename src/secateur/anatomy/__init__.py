"""The parts of an `nn.Module`, read and written without running its code: tensors (`slots`), integers (`holders`),
caches, masks, lists of layers, bypasses; and how a model is called, seeded, checked and restored.

This package may import `base`, `terms`, the values of `plan` and everything below them, but no Graph. A new kind of
state that a run may change is restored in `keeping.py`.
"""
