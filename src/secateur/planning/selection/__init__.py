"""Selection: rules that limit what may be cut, read from Python or a file, and applied to a Graph.

May import `graph`, `cost`, `terms`, `errors` and `base`; not `planning.solver`. To extend it: a new setting of a rule
is a row in `SETTINGS` (`rules.py`) that `Wishes` (`limits_by_axis.py`) reads; a new form of condition is a row in
`FORMS` (`selector.py`); a new file format is a row in `READERS` (`selection_file.py`).
"""
