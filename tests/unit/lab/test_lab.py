"""The lab's pure parts: topology file -> node files, container commands, inventory."""
from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))

from labkit import images, topology  # noqa: E402
from labkit import lab as lab_module  # noqa: E402
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


class FakeMachine(lab_module.Lab):
    """A lab whose machine remembers what it was told. failures: what each attempt to plug in says, None where it works."""

    def __init__(self, topo, failures, dead=()):
        self.topology, self.engine, self.failures, self.dead, self.pid = topo, "podman", list(failures), set(dead), 100
        self.plugged, self.started, self.awaited = [], [], []

    def _machine(self, script, what, data=b"", timeout=None):
        if " inspect " in script:
            self.pid += 1
            return "".join(f"/softwire-lab-{name} {0 if name in self.dead else self.pid}\n" for name in re.findall(r"softwire-lab-(\w+)", script))
        if what == "plugging the nodes in":
            self.plugged.append(set(re.findall(rb"netns (\d+)", data)))
            failure = self.failures.pop(0)
            if failure:
                raise LabError(failure)
        return ""

    def _engine_parallel(self, verb, names):
        self.started.append((verb, list(names)))
        self.dead.clear()

    def _wait_for_systemd(self, name):
        self.awaited.append(name)


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(lab_module, "PLUG_PAUSE", 0)


GONE = "plugging the nodes in failed (1): RTNETLINK answers: No such process"


def test_plugging_in_is_tried_again_with_fresh_process_ids(small, no_pause):
    lab = FakeMachine(small, [GONE, None])
    lab._plug_and_wait(["ce", "s"])
    assert lab.plugged == [{b"101"}, {b"102"}] and sorted(lab.awaited) == ["ce", "s"] and lab.started == []


def test_a_node_that_has_ended_is_started_again(small, no_pause):
    lab = FakeMachine(small, [None], dead=["s"])
    lab._plug_and_wait(["ce", "s"])
    assert lab.started == [("start", ["s"])] and lab.plugged == [{b"102"}]


def test_plugging_in_gives_up_with_the_last_error(small, no_pause):
    lab = FakeMachine(small, [GONE] * 9)
    with pytest.raises(LabError, match="No such process"):
        lab._plug_and_wait(["ce", "s"])
    assert len(lab.plugged) == lab_module.PLUG_ATTEMPTS and lab.awaited == []


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of the lab without images, in which modprobe and others answer 1."""
    monkeypatch.setattr(images, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr(images, "node_archive", lambda suite: tmp_path / f"node-{suite}.tar")
    monkeypatch.setattr(images, "vm_root_archive", lambda: tmp_path / "vmroot.tar")
    monkeypatch.setattr(images, "subprocess", SimpleNamespace(run=lambda argv, **_options: subprocess.CompletedProcess(argv, 1)))
    return tmp_path


def put(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def archive(path, *names):
    with tarfile.open(path, "w") as made:
        for name in names:
            made.addfile(tarfile.TarInfo(name), io.BytesIO())


def test_what_a_vm_lacks_of_a_module_is_known_without_booting_it(cache):
    module, command = images.lacks("vm", ["bookworm"], "jool_mapt")
    assert module.startswith("the VM's kernel has no module jool_mapt") and command.startswith("the node image bookworm has no command jool_mapt")
    put(cache / "extra-root/lib/modules/6.1.0/extra/jool_mapt.ko")
    put(cache / "extra-root-node/usr/local/bin/jool_mapt")
    assert images.lacks("vm", ["bookworm", "trixie"], "jool_mapt") == []
    archive(cache / "node-bookworm.tar", "./usr/bin/jool_siit")
    archive(cache / "vmroot.tar", "./lib/modules/6.1.0/updates/dkms/jool_siit.ko.xz")
    assert images.lacks("vm", ["bookworm"], "jool_siit") == []


def test_what_a_host_lacks_of_a_module(cache):
    put(cache / "extra-root-node/usr/bin/no_such_module")
    assert images.lacks("host", ["bookworm"], "no_such_module") == ["this machine's kernel has no module no_such_module"]
