# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the lines of conntrack and of a file "flows" mean."""

from __future__ import annotations

import role_variables
import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import flows


@pytest.mark.parametrize("line, protocol, begun, answers", [
    ("udp      17 29 src=192.168.0.10 dst=198.51.100.1 sport=5000 dport=53 [UNREPLIED] src=198.51.100.1 dst=192.0.2.18 sport=53 dport=16400"
     " mark=0 use=1", "udp", ("192.168.0.10", 5000), ("192.0.2.18", 16400)),
    ("icmp     1 29 src=192.168.0.10 dst=198.51.100.1 type=8 code=0 id=7 src=198.51.100.1 dst=192.0.2.18 type=0 code=0 id=16385 mark=0 use=1",
     "icmp", ("192.168.0.10", 7), ("192.0.2.18", 16385)),
    ("unknown  2 500 src=192.168.0.1 dst=224.0.0.22 [UNREPLIED] src=224.0.0.22 dst=192.168.0.1 mark=0 use=2",
     "unknown", ("192.168.0.1", 0), ("192.168.0.1", 0)),
])
def test_a_line_of_conntrack(line, protocol, begun, answers):
    found = flows.parsed(line)
    assert found[0] == protocol
    assert [(found[1]["src"], flows.port_of(found[1], "sport")), (found[2]["dst"], flows.port_of(found[2], "dport"))] == [begun, answers]


def test_every_port_has_one_index():
    files = role_variables.ce_generations(**role_variables.CE_CASES["offset_6_with_forwards"])["jool_siit"]
    ports, services = flows.ports_and_services(files["napt/flows"].encode())
    assert sorted(ports.values()) == sorted(port for start in range(1024, 65536, 1024) for port in range(start + 208, start + 212))
    taken = {1232, 2257, 64723}
    assert {ports[port] for port in taken} == taken  # what is forwarded or reserved is its own index
    others = sorted(index for index in ports if index not in taken)
    assert others == list(range(others[0], others[0] + len(others)))
    assert services["tcp", "1232"] == "192.168.0.10:80" and services["udp", "64723"] == "this-router"
