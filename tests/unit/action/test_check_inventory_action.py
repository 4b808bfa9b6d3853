# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action check_inventory: two customer edges that are one, named with both hosts."""

from __future__ import annotations

from unittest import mock

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.softwire.map.plugins.action import check_inventory

DOMAIN = {"transport": "map-t", "dmr": "64:ff9b::/96", "rules": [
    {"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16}]}
PREFIXES = {"a": "2001:db8::/56", "b": "2001:db8:0:100::/56", "c": "2001:db8:0:80::/60", "d": "2001:db8:0:100::/56", "e": "wrong"}
HOSTVARS = {name: {"map_domain": DOMAIN, "map_ce_end_user_prefix": prefix} for name, prefix in PREFIXES.items()}


def run(hosts, **args):
    task = mock.Mock(args={"customer_edges": list(hosts), **args}, check_mode=False, async_val=0)
    plugin = check_inventory.ActionModule(task, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
    return plugin.run(None, {"hostvars": HOSTVARS})


def refusal(hosts, **args):
    with pytest.raises(AnsibleActionFail) as raised:
        run(hosts, **args)
    assert raised.value.__cause__ is None  # Ansible would say its text once more
    return str(raised.value)


def test_every_pair_is_listed():
    text = refusal("abcde")
    assert text.startswith("2 faults:\n- ") and " (nothing was changed)" in text
    assert ("hostvars['c'].map_ce_end_user_prefix: '2001:db8:0:80::/60': gives the same CE as "
            "hostvars['a'].map_ce_end_user_prefix (2001:db8::/56): both are 2001:db8::/56") in text
    assert "hostvars['d'].map_ce_end_user_prefix: '2001:db8:0:100::/56': gives the same CE as hostvars['b']" in text


def test_a_pair_counts_where_one_of_it_is_in_the_run():
    assert "2 faults" not in refusal("abcd", only=["a"]) and "hostvars['c']" in refusal("abcd", only=["a"])
    assert "hostvars['d']" in refusal("abcd", only=["d"])
    assert not run("abcde", only=["e"])["changed"]


def test_different_customer_edges_pass():
    assert not run("abe")["changed"]
