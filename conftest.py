"""What pytest leaves out: modules that stand on what is not installed; and where logs of tests go."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

collect_ignore = [] if importlib.util.find_spec("torch_pruning") else ["src/secateur/recipes/migration/theirs.py"]


@pytest.fixture(scope="session", autouse=True)
def trackio_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trackio's data base lies in the home folder otherwise; it reads this when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))
        yield
