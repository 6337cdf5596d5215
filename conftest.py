"""Settings of every test process: one thread, a cache of its own."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch is imported anywhere: small models are faster on one thread, and results do not depend on the machine.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["ET_CACHE_DIR"] = str(Path(tempfile.mkdtemp(prefix="et-cache-")))
for name in ("ET_ZOO_DIR", "ET_PLUGINS"):
    os.environ.pop(name, None)

SHARED_DATA = Path(__file__).resolve().parent.parent / "shared" / "data"


@pytest.fixture(autouse=True, scope="module")
def plugin_files_of_one_module() -> Iterator[None]:
    """Whatever files of plugins the tests of a module load, those of the next know nothing of."""
    from et_core.registry import refresh

    yield
    refresh()


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data sets beside the repository; tests that need it are skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data sets are not beside the repository (../shared/data)")
    return SHARED_DATA
