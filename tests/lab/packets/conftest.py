"""Access to the running lab, and what the example inventory says of each customer edge."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "collections"), str(ROOT / "tests" / "lab")]

CLIENTS = {"c1": "ce11b", "c2": "ce774", "c3": "ce11a"}


@pytest.fixture(scope="session")
def lab():
    from labkit import Lab
    return Lab("mapt")


@pytest.fixture(scope="session")
def edges():
    """The ce dict of each customer edge by the name of its client."""
    from ansible_collections.softwire.map.plugins.plugin_utils.domain import ce
    inventory = ROOT / "inventories" / "example"
    domain = yaml.safe_load((inventory / "group_vars" / "all.yml").read_text())["map_domain"]
    return {
        client: ce(domain, yaml.safe_load((inventory / "host_vars" / f"{host}.yml").read_text())["map_ce_end_user_prefix"])
        for client, host in CLIENTS.items()
    }
