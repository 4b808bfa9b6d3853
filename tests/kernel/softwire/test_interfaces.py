# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the preflight sees of real interfaces."""

from __future__ import annotations

import json

from ansible_collections.softwire.map.plugins.module_utils.softwire import preflight


def test_the_interfaces_of_a_machine(sandbox, monkeypatch):
    sandbox.sh("ip link add br0 type bridge; ip link add isp type veth peer name lan; ip link set lan master br0; ip addr add 192.0.2.1/24 dev isp")
    monkeypatch.setattr(preflight, "query", lambda argv: json.loads(sandbox.run(*argv).stdout))
    links = preflight.links([])
    assert set(links) == {"lo", "br0", "isp", "lan"}
    assert links["br0"]["linkinfo"]["info_kind"] == "bridge" and links["lan"]["master"] == "br0"
    assert links["isp"]["mtu"] == 1500 and links["isp"]["addr_info"][0]["local"] == "192.0.2.1"
