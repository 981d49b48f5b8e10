"""Small helpers that do not depend on models, axes or plans: text tables, dotted names, paths, atomic file writes,
hashes, progress bars, nested containers of tensors, and the state of the process.

This package may import only `secateur.errors`. Add a helper here when at least two other packages need it.
"""
