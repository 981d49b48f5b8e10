"""Helpers that know nothing of models, axes or plans: text, names, paths, files written whole or not at all, hashes,
progress, containers of tensors, the state of the process. May import nothing of secateur but `errors`.
"""
