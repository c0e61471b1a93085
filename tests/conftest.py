"""What the tests share: where real data and a browser are found, and when their tests are skipped."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

pytest_plugins = ["tests.tiny"]  # a tiny cohort and its analysis

# Two test processes on two cores: a second thread in each would only wait for the other's.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real cohorts beside this repository."""
    if not SHARED.is_dir():
        pytest.skip("real cohorts (../shared/data) are not on this machine")
    return SHARED


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium to drive."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt install chromium)")
    return found
