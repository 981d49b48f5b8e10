"""Save and load pruned models: one safetensors file, or a folder that `from_pretrained` reads.

This package may import `secateur.proof`, `secateur.masks` and everything below them. Something new in a file is a
module such as `extra_state.py`, with a key of its own in the metadata, that `model_file.py` calls in `save` and `load`.
"""
