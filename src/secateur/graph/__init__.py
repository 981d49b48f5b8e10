"""The Graph of a model: its prunable axes, the dimensions that they couple, size equations and costs.

`facts.py` defines the data; printing, JSON, names, blocks and reasons are operations on it in separate modules.
This package may import `secateur.cost`, `anatomy`, `plan`, `terms` and everything below them, but not the trace. A new
front-end calls `build_graph` (`assembling.py`) with its own analysis, and needs only these packages.
"""
