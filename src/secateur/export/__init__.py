"""Export saved models to runtimes that work without secateur.

This package may import `secateur.files` and everything below it. A new runtime is one module and a row in
`runtimes.RUNTIMES`. `load_pruned.py` is the source of the file that the runtime `loader` writes.
"""
