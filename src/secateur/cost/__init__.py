"""Parameters, MACs and memory as functions of how many units each axis keeps, computed without building a model.

Costs are sums of products of `secateur.terms`; only `count.py` runs a model, to count it independently of any trace.
This package may import `secateur.anatomy` and everything below it, but no Graph. A new cost is a class with the methods
`__call__`, `many` and `slopes` of `SizePolynomial`, and an attribute of `Cost`. An op that PyTorch has no FLOP formula
for gets a `formula` in `count.py`.
"""
