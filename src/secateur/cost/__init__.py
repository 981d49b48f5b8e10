"""Sizes as functions of the counts of axes: parameters, MACs, bytes. Sums of products over `terms`, without any model;
`count.py` apart, which counts a model independently of any trace.
"""
