"""The value Graph: axes, sites, size equations and costs of a model. `facts.py` is the data; text, JSON, names, blocks
and reasons are operations on it. A front-end that yields a Graph imports this room, `terms`, `plan` and `cost`.
"""
