"""The lab's pure parts: topology file -> node files, container commands, inventory."""
from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))

from labkit import topology  # noqa: E402
from labkit.common import LabError, recipe_hash  # noqa: E402

SMALL = """
networks = ["isp", "mgmt"]
[management]
network = "mgmt"
address = "198.18.5.1/24"
[nodes.ce]
group = "map_ce"
interfaces.lan = { network = "isp" }
interfaces.isp = { network = "isp", addresses = ["2001:db8:6::2/64"] }
interfaces.mgmt = { network = "mgmt", addresses = ["198.18.5.11/24"] }
routes = ["default via 2001:db8:6::1"]
[nodes.s]
server = true
interfaces.isp = { network = "isp", addresses = ["2001:db8:6::1/64"] }
"""


@pytest.fixture
def small():
    return topology.parse("small", SMALL)


def test_node_files(small):
    files = topology.node_files(small.nodes["ce"], "ssh-ed25519 AAAA\n")
    assert files["interfaces"] == "lan\nisp\nmgmt\n"
    assert files["ip.batch"].splitlines() == [
        "link set lo up",
        "address replace 2001:db8:6::2/64 dev isp",
        "link set isp up",
        "address replace 198.18.5.11/24 dev mgmt",
        "link set mgmt up",
        "route replace default via 2001:db8:6::1",
    ]
    assert files["authorized_keys"] == "ssh-ed25519 AAAA\n"
    assert "server" not in files


def test_a_server_gets_no_key(small):
    files = topology.node_files(small.nodes["s"], "ssh-ed25519 AAAA\n")
    assert set(files) == {"interfaces", "ip.batch", "server"}


NETWORKD = SMALL.replace('group = "map_ce"', 'group = "map_ce"\nsuite = "trixie"\nnetworkd = true')


def test_a_node_on_networkd_gets_files_instead_of_ip_batch():
    node = topology.parse("small", NETWORKD).nodes["ce"]
    files = topology.node_files(node, "ssh-ed25519 AAAA\n")
    assert files["ip.batch"] == "link set lo up\n"
    assert set(files) == {"interfaces", "ip.batch", "authorized_keys", "network/10-isp.network", "network/10-mgmt.network"}
    assert files["network/10-isp.network"].splitlines() == [
        "[Match]", "Name=isp", "",
        "[Network]", "IPv6AcceptRA=no", "Address=2001:db8:6::2/64", "",
        "[Route]", "Destination=::/0", "Gateway=2001:db8:6::1",
    ]
    assert "[Route]" not in files["network/10-mgmt.network"]


def test_a_route_with_several_gateways_for_networkd():
    text = NETWORKD.replace('"default via 2001:db8:6::1"', '"2001:db8::/32 nexthop via 2001:db8:6::1 nexthop via 2001:db8:6::3"')
    files = topology.node_files(topology.parse("small", text).nodes["ce"], "")
    assert files["network/10-isp.network"].splitlines()[-3:] == [
        "Destination=2001:db8::/32", "MultiPathRoute=2001:db8:6::1", "MultiPathRoute=2001:db8:6::3"]


@pytest.mark.parametrize("route, reason", [
    ("2001:db8::/64 dev isp", "systemd-networkd"),
    ("default via 2001:db8:9::1", "no interface"),
])
def test_a_route_that_networkd_would_not_get_is_named(route, reason):
    with pytest.raises(LabError, match=f"nodes.ce.routes: .*{reason}"):
        topology.parse("small", NETWORKD.replace("default via 2001:db8:6::1", route))


def test_suites_are_those_of_the_nodes(small):
    assert small.suites == ["bookworm"]
    assert topology.parse("small", NETWORKD).suites == ["bookworm", "trixie"]


def test_each_client_has_the_edge_on_its_network():
    assert topology.load("mapt").edges == {"c1": "ce11b", "c2": "ce774", "c3": "ce11a"}
    assert topology.load("mape").edges == {"c1": "ce1", "c2": "ce2", "c3": "ce3", "c4": "ce4"}


@pytest.mark.parametrize("engine", ["podman", "docker"])
def test_container_command(small, engine):
    argv = topology.container_command(engine, small, small.nodes["ce"], "image:1", modules=True)
    assert argv[:2] == [engine, "run"]
    assert argv[-2:] == ["image:1", "/sbin/init"]
    assert argv[argv.index("--network") + 1] == "none"
    assert "net.ipv4.ip_forward=0" in argv
    assert ("--systemd=always" in argv) == (engine == "podman")
    assert "/lib/modules:/lib/modules:ro" in argv
    without = topology.container_command(engine, small, small.nodes["ce"], "image:1", False)
    assert "/lib/modules:/lib/modules:ro" not in without


def test_plugging_pins_the_mac(small):
    unplug, plug = topology.plug_lines(small.nodes["s"], 42)
    assert unplug == ["link delete s.isp"]
    assert plug[0] == ("link add name s.isp type veth peer name isp "
                       "address 02:00:5e:00:02:01 netns 42")
    assert plug[1].startswith("link set s.isp master isp ")


@pytest.mark.parametrize("proxy", [None, "ssh -p 2222 -W %h:%p root@127.0.0.1"])
def test_inventory(small, proxy):
    data = yaml.safe_load(topology.inventory(small, Path("/k"), proxy))["all"]
    assert data["children"] == {"map_ce": {"hosts": {"ce": {"ansible_host": "198.18.5.11"}}}}
    assert data["vars"]["ansible_ssh_private_key_file"] == "/k"
    assert data["vars"]["ansible_ssh_pipelining"] is True
    arguments = data["vars"]["ansible_ssh_common_args"]
    assert (f"ProxyCommand='{proxy}'" in arguments) == bool(proxy)


@pytest.mark.parametrize("old, new, reason", [
    ('network = "isp" }', 'network = "nowhere" }',
     r"nodes.ce.interfaces.lan: no network 'nowhere'"),
    ("server = true", "serves = true", r"nodes.s: unknown keys \['serves'\]"),
    ('group = "map_ce"', 'suite = "sid"', "nodes.ce.suite: 'sid' is not one of bookworm, trixie"),
    ("interfaces.lan", "interfaces.a-very-long-lan", "longer than an interface name"),
])
def test_a_wrong_topology_is_named(old, new, reason):
    with pytest.raises(LabError, match=reason):
        topology.parse("small", SMALL.replace(old, new, 1))


def test_a_managed_node_needs_the_management_network(small):
    line = 'interfaces.mgmt = { network = "mgmt", addresses = ["198.18.5.11/24"] }'
    text = SMALL.replace(line, "")
    with pytest.raises(LabError, match="nodes.ce has a group"):
        topology.inventory(topology.parse("small", text), Path("/k"), None)


def test_every_shipped_topology_is_sound():
    for path in (Path(topology.SOURCE) / "topologies").glob("*.toml"):
        topo = topology.load(path.stem)
        macs = [i.mac for n in topo.nodes.values() for i in n.interfaces]
        assert len(set(macs)) == len(macs)
        assert topology.inventory(topo, Path("/k"), None)


def test_recipe_hash_follows_a_file(tmp_path):
    (tmp_path / "a").write_text("1")
    before = recipe_hash("x", tmp_path)
    (tmp_path / "a").write_text("2")
    assert recipe_hash("x", tmp_path) != before
