"""Access to the running lab, and what its inventory says of each customer edge."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# Each client and the host of its customer edge.
CLIENTS = {"c1": "ce11b", "c2": "ce774", "c3": "ce11a"}


@pytest.fixture(scope="session")
def lab():
    from labkit import Lab
    return Lab("mapt")


@pytest.fixture(scope="session")
def inventory():
    """{host: {"ce": what the filter softwire.map.ce gives, "port_forwards": [...], "namespace": str}}, from verify.yml."""
    if "LAB_EDGES" not in os.environ:
        pytest.fail("LAB_EDGES is not set: these tests are started by molecule's verify.yml")
    return json.loads(os.environ["LAB_EDGES"])


@pytest.fixture(scope="session")
def edges(inventory):
    """The ce dict of each customer edge by the name of its client."""
    return {client: inventory[host]["ce"] for client, host in CLIENTS.items()}
