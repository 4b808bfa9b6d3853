"""Makes the checkout importable as the collection ansible_collections.softwire.map, and what the tests share by its own name."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent / "collections"), str(TESTS / "helpers")]
