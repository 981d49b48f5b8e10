"""Solver: how many units each axis keeps, so that all targets are met at the least loss of importance.

May import `planning.selection`, `planning.targets`, `graph`, `cost` and the rooms below them. It works on counts,
scores and costs; only `ladders.py` reads score tensors. To extend it: a new scope is a name in `SCOPES` with the order
of its descents in `Allocation._keys` (`allocate.py`).
"""
