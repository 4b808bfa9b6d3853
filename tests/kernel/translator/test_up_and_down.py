# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An instance with the translator goes without a trace, and changes under the feet of its connections."""

from __future__ import annotations

import difflib
import os
import time

import pytest
import role_variables
from network import EDGES, HOST, PATIENCE, SERVICE, Network, exchange, running

FAULTS = """
import pathlib
from softwire import drift, runner
print("\\n".join(drift.differences(runner.Generation(pathlib.Path().resolve()))), end="")
"""
EACH_EDGE = pytest.mark.parametrize("number", ["1", "2"])


@pytest.fixture(scope="module")
def changing(tmp_path_factory):
    with running(tmp_path_factory.mktemp("network"), edges="12") as network:
        yield network


def faults(network, name):
    """What the router has otherwise than its generation says."""
    return network.machines[name].run("env", "-C", network.generations[name], "python3", "-BESc", "import sys; sys.path.insert(0, '')" + FAULTS).stdout


def test_down_leaves_the_machine_as_it_was(tmp_path):
    network = Network(tmp_path, edges="12")
    try:
        names = ("br", "ce1", "ce2")
        for name in names:  # The kernel makes addresses and routes of a carrier a moment later.
            wait_for_addresses(network, name)
        before = {name: network.machines[name].snapshot() for name in names}
        network.up()
        assert {name: faults(network, name) for name in names} == dict.fromkeys(names, "")
        for number in "12":
            with network.udp("c" + number) as (client, server):
                client.send(b"up")
                assert server.recv(10) == b"up"
        for name in names:
            assert network.machines[name].softwire(network.generations[name], "down").stderr == ""
            wait_for_addresses(network, name)
            assert "\n".join(difflib.unified_diff(before[name], network.machines[name].snapshot(), lineterm="", n=0)) == "", name
    finally:
        network.close()


def wait_for_addresses(network, name):
    """Until each link of a machine has its link-local address again."""
    end = time.monotonic() + PATIENCE
    links = "ip -6 -o addr show scope link | wc -l; ip -o link show up | grep -cv LOOPBACK"
    while len(set(network.machines[name].sh(links).split())) != 1:
        assert time.monotonic() < end, network.machines[name].sh("ip addr")
        time.sleep(0.02)


@EACH_EDGE
def test_a_reload_with_other_forwards_keeps_a_connection(changing, number):
    edge, data = EDGES[number], os.urandom(1 << 16)
    first, second, web = edge.ports[0], edge.ports[2], SERVICE + 1
    with changing.tcp("c" + number) as ends, \
            changing.tcp("s", "c" + number, edge.address, first, HOST, SERVICE) as forwarded:
        assert exchange(*ends, data) == exchange(*forwarded, data) == [data, data]
        changing.deploy(number, "reload", port_forwards=[
            {"port": first, "to_address": HOST, "to_port": SERVICE, "protocol": "tcp_udp"},
            {"port": second, "to_address": HOST, "to_port": web, "protocol": "tcp"}])
        assert faults(changing, "ce" + number) == ""
        assert exchange(*ends, data) == exchange(*forwarded, data) == [data, data]
        with changing.tcp("s", "c" + number, edge.address, second, HOST, web) as new:
            assert exchange(*new, data) == [data, data]
        changing.deploy(number, "reload")
        assert faults(changing, "ce" + number) == ""
        assert exchange(*ends, data) == exchange(*forwarded, data) == [data, data]


@EACH_EDGE
def test_a_reload_with_other_rules_keeps_a_connection(changing, number):
    """The rules become forwarding ones, and no longer are."""
    data = os.urandom(1 << 16)
    mesh = {**changing.domain, "rules": [{**rule, "fmr": True} for rule in changing.domain["rules"]]}
    with changing.tcp("c" + number) as ends, changing.counted("ce" + number) as counted:
        assert exchange(*ends, data) == [data, data]
        for domain in (mesh, changing.domain):
            changing.deploy(number, "reload", domain=domain)
            assert faults(changing, "ce" + number) == ""
            assert exchange(*ends, data) == [data, data]
    assert not [name for name in counted if "dropped" in name]


def test_a_border_relay_takes_another_rule_and_keeps_a_connection(changing):
    data = os.urandom(1 << 16)
    less = {**changing.domain, "rules": changing.domain["rules"][:1]}
    with changing.tcp("c1") as ends, changing.counted("br") as counted:
        for domain in (less, changing.domain):
            relay = role_variables.br(domains=[domain], translator="bpf", ipv6_mtu=changing.mtu)
            changing.install("br", role_variables.br_alternatives(relay), "reload")
            assert faults(changing, "br") == ""
            assert exchange(*ends, data) == [data, data]
    assert not [name for name in counted if "dropped" in name]


@EACH_EDGE
def test_up_again_replaces_what_is_up(changing, number):
    changing.deploy(number)
    assert faults(changing, "ce" + number) == ""
    with changing.udp("c" + number) as (client, server):
        client.send(b"up again")
        assert server.recv(10) == b"up again"
