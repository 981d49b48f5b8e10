"""What pytest leaves out: modules that stand on what is not installed."""

from __future__ import annotations

import importlib.util

collect_ignore = [] if importlib.util.find_spec("torch_pruning") else ["src/secateur/recipes/migration/theirs.py"]
