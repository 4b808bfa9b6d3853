# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What softwire.map.export writes, read by the programs that it is for; and a client gets what the inventory says, a routing daemon has the routes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import doc_samples
import pytest
from ansible_collections.softwire.map.plugins.filter.ce import ce
from ansible_collections.softwire.map.plugins.filter.dhcpv6_options import dhcpv6_options
from ansible_collections.softwire.map.plugins.filter.from_dhcpv6_options import from_dhcpv6_options
from ansible_collections.softwire.map.plugins.plugin_utils import export
from ansible_collections.softwire.map.plugins.plugin_utils.inventory import Network
from dhcpv6_lab import Lab

DUID = "00:03:00:01:02:00:5e:10:00:01"
RULE = {"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16}
MAP_E = {"transport": "map-e", "br_address": ["2001:db8:ffff::1", "2001:db8:ffff::2"], "rules": [
    RULE, {"ipv6_prefix": "2001:db8:1200::/48", "ipv4_prefix": "198.51.100.0/24", "ea_length": 8}]}
MAP_T = {"transport": "map-t", "dmr": "64:ff9b::/96", "rules": [{**RULE, "ipv4_prefix": "203.0.113.0/24"}]}


def edge(prefix, domain=None, **variables):
    return {"map_domain": domain or MAP_E, "map_ce_end_user_prefix": prefix, **variables}


# Most are MAP-E; one in the same pool is MAP-T, and only its DUID tells.
MIXED = {
    "plain": edge("2001:db8:12:3400::/56"),
    "known": edge("2001:db8:12:3500::/56", map_export_duid=DUID.replace("10:00:01", "10:00:99")),
    "other": edge("2001:db8:12:3600::/56", MAP_T, map_export_duid=DUID),
}
SINGLE = {"only": edge("2001:db8:12:3600::/56", MAP_T)}
RELAYS = {
    "br1": {"map_domain": MAP_E},
    "br2": {"map_domain": MAP_T, "map_br_instance": "br_t"},
    "br3": {"map_domain": MAP_T, "map_br_translator": "jool_siit"},
}
# The daemons' own files, as far as the page shows them.
KEA, DNSMASQ, BIRD, FRR = doc_samples.texts("export", "text")
WRAP = '{"Dhcp6": {"interfaces-config": {"interfaces": ["eth0"]}, "lease-database": {"type": "memfile", "persist": false},\n%s}}' % KEA


def exported(directory, edges, relays=None):
    """Writes the files of an inventory below a directory; returns where they are."""
    directory = directory / "export"
    hosts = {**edges, **(relays or {})}
    network = Network(hosts, list(edges), list(relays or {}))
    for path, text in export.files(network, export.duids_of(network, hosts), pytest.fail).items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)
    return directory


def including(text, path):
    """A file of the page that includes this one."""
    return re.sub(r'/etc/[^"\s]+', str(path), text)


def bird(path):
    return "router id 192.0.2.254;\nprotocol device { scan time 1; }\n" + including(BIRD, path)


def accepts(directory, program, *arguments):
    """Whether a program takes a file; it is run as a copy, since AppArmor's profiles go by path."""
    copy = directory / f"copy-of-{program}"
    if not copy.exists():
        shutil.copy(shutil.which(program), copy)
    done = subprocess.run([copy, *arguments], capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("edges", [MIXED, SINGLE, {}], ids=["two domains", "one domain", "nobody"])
def test_the_programs_take_the_files(edges, tmp_path):
    made = exported(tmp_path, edges, RELAYS)
    (tmp_path / "kea.json").write_text(re.sub('"interface": "eth0",|"eth0"', "", including(WRAP, made / "kea-subnet6.inc")))
    checks = [("kea-dhcp6", "-t", tmp_path / "kea.json"), ("dnsmasq", "--test", f"--conf-file={made / 'dnsmasq.conf'}")]
    for relay, variables in RELAYS.items():
        instance = variables.get("map_br_instance", "br")
        (tmp_path / f"{relay}.bird").write_text(bird(made / relay / "bird.conf").replace("softwire_br_ipv", f"softwire_{instance}_ipv"))
        (tmp_path / f"{relay}.frr").write_text((made / relay / "frr.conf").read_text() + FRR)
        checks += [("bird", "-p", "-c", tmp_path / f"{relay}.bird"), ("vtysh", "-C", "-f", tmp_path / f"{relay}.frr")]
    for program, *arguments in checks:
        taken, said = accepts(tmp_path, program, *arguments)
        assert taken, f"{program}: {said}"
    # Each of these programs says so where it does not.
    for path in (made / "kea-subnet6.inc", made / "dnsmasq.conf", made / "br1/bird.conf", tmp_path / "br1.frr"):
        path.write_text(path.read_text() + "\nnonsense of no language\n")
    for program, *arguments in checks[:4]:
        assert not accepts(tmp_path, program, *arguments)[0], program


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path)
    try:
        (tmp_path / "leases").write_text('default-duid "%s";\n' % "".join(f"\\{int(byte, 16):03o}" for byte in DUID.split(":")))
        yield made
    finally:
        made.close()


def same(received, domain):
    option = dhcpv6_options(domain)[0]
    return from_dhcpv6_options(received["new_dhcp6_softwire"], option["code"]) == from_dhcpv6_options(option["option"])


def test_kea_gives_a_customer_edge_its_own_prefix_and_its_own_rules(lab, tmp_path):
    lab.serve_kea(including(WRAP, exported(tmp_path, MIXED) / "kea-subnet6.inc"))
    received = lab.ask(95, "-P", "BOUND6")
    assert received["new_ip6_prefix"] == "2001:db8:12:3600::/56" and same(received, MAP_T)
    assert ce(MAP_T, received["new_ip6_prefix"])["ipv4_address"] == "203.0.113.18"


def test_kea_gives_a_customer_edge_that_nobody_knows_a_prefix_and_its_rules(lab, tmp_path):
    lab.serve_kea(including(WRAP, exported(tmp_path, {"plain": MIXED["plain"]}) / "kea-subnet6.inc"))
    received = lab.ask(94, "-P", "BOUND6")
    assert same(received, MAP_E) and ce(MAP_E, received["new_ip6_prefix"])["delegated_prefix"] == received["new_ip6_prefix"]


@pytest.mark.parametrize("edges, code, domain", [
    (MIXED, 95, MAP_T), ({**MIXED, "other": MIXED["plain"] | edge("2001:db8:12:3700::/56")}, 94, MAP_E)], ids=["known", "not known"])
def test_dnsmasq_gives_a_customer_edge_its_own_rules(lab, tmp_path, edges, code, domain):
    lab.serve_dnsmasq(including(DNSMASQ, exported(tmp_path, edges) / "dnsmasq.conf"))
    assert same(lab.ask(code, "-S", "RENEW6"), domain)


def test_dnsmasq_gives_a_known_customer_edge_nothing_of_others(lab, tmp_path):
    lab.serve_dnsmasq(including(DNSMASQ, exported(tmp_path, MIXED) / "dnsmasq.conf"))
    assert "new_dhcp6_softwire" not in lab.ask(94, "-S", "RENEW6")


def in_namespace(name, *command):
    done = subprocess.run(["ip", "netns", "exec", name, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def test_bird_has_the_routes_as_long_as_the_softwire_is_up(lab, tmp_path):
    (tmp_path / "bird.conf").write_text(bird(exported(tmp_path, {}, RELAYS) / "br1" / "bird.conf"))
    control = tmp_path / "bird.ctl"
    process, log = lab.start(lab.server, "bird", "-f", "-c", tmp_path / "bird.conf", "-s", control)
    lab.wait(control.exists, process, log)

    def routes():
        said = in_namespace(lab.server, "birdc", "-s", str(control), "show", "route")
        return {line.split()[0] for line in said.splitlines() if "unicast [softwire_br_" in line}

    assert routes() == set()
    # A stand-in for the tunnel, by its name.
    in_namespace(lab.server, "ip", "link", "add", "br-tun", "type", "veth", "peer", "name", "br-peer")
    for name in ("br-tun", "br-peer"):
        in_namespace(lab.server, "ip", "link", "set", name, "up")
    lab.wait(lambda: routes() == {"192.0.2.0/24", "198.51.100.0/24", "2001:db8:ffff::1/128", "2001:db8:ffff::2/128"}, process, log)
    in_namespace(lab.server, "ip", "link", "delete", "br-tun")
    lab.wait(lambda: routes() == set(), process, log)


def up(namespace, *commands):
    for command in commands:
        in_namespace(namespace, "ip", *command.split())


AS_THE_ROLE_DOES = ["link add br-tun type veth peer name br-peer", "link set br-tun up", "link set br-peer up", "addr add 2001:db8:ffff::1/128 dev lo",
                    "addr add 2001:db8:ffff::2/128 dev lo", "route add 192.0.2.0/24 via 192.0.0.8 dev br-tun onlink",
                    "route add 198.51.100.0/24 via 192.0.0.8 dev br-tun onlink"]
JOOL = ["route add blackhole 203.0.113.0/24 metric 4294967294", "route add unreachable 64:ff9b::/96 metric 4294967294"]


@pytest.fixture
def sockets():
    """A directory for the sockets of FRR's daemons, which insist on a user and a group of their own."""
    with tempfile.TemporaryDirectory() as name:
        shutil.chown(name, "frr", "frr")
        yield Path(name)


@pytest.mark.parametrize("relay, commands, routes", [
    ("br1", AS_THE_ROLE_DOES, {"192.0.2.0/24", "198.51.100.0/24", "2001:db8:ffff::1/128", "2001:db8:ffff::2/128"}),
    ("br3", JOOL, {"203.0.113.0/24", "64:ff9b::/96"}),
], ids=["MAP-E", "Jool"])
def test_frr_announces_what_the_border_relay_serves_and_nothing_else(lab, tmp_path, sockets, monkeypatch, relay, commands, routes):
    monkeypatch.setenv("PATH", "/usr/lib/frr", prepend=":")
    asking = ["vtysh", "--vty_socket", str(sockets)]
    for daemon in ("zebra", "staticd", "bgpd"):
        extra = ["-p", "0"] if daemon == "bgpd" else []
        process, log = lab.start(lab.server, daemon, "-z", sockets / "zserv.api", "--vty_socket", sockets,
                                 "-i", sockets / f"{daemon}.pid", *extra)
        lab.wait((sockets / f"{daemon}.vty").exists, process, log)
    up(lab.server, *commands, "route add 203.0.113.128/25 dev eth0", "route add 2001:db8:99::/64 dev eth0")
    (tmp_path / "bgp.conf").write_text("router bgp 64500\n bgp router-id 192.0.2.254\n" + "".join(
        f" address-family ipv{version} unicast\n" + "".join(
            f"  redistribute {kind} route-map softwire-br-ipv{version}\n" for kind in ("kernel", "connected", "static")) + " exit-address-family\n"
        for version in (4, 6)))
    for path in (exported(tmp_path, {}, RELAYS) / relay / "frr.conf", tmp_path / "bgp.conf"):
        in_namespace(lab.server, *asking, "-f", str(path))

    def announced():
        return {prefix for version in (4, 6) for prefix in json.loads(in_namespace(
            lab.server, *asking, "-c", f"show bgp ipv{version} unicast json")).get("routes", {})}

    lab.wait(lambda: announced() == routes, process, log)
    if relay == "br1":
        up(lab.server, "link delete br-tun", "addr del 2001:db8:ffff::1/128 dev lo", "addr del 2001:db8:ffff::2/128 dev lo")
        lab.wait(lambda: announced() == set(), process, log)
