# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an instance tells of itself: flows that are there, packets that are dropped, and the same for Prometheus.

A LAN with two hosts, the router, the WAN's other end, and a server behind a bridge in the place of the tunnel.
"""

from __future__ import annotations

import json
import re

import role_variables
import pytest
from prometheus_client.parser import text_string_to_metric_families
from test_flows import MAPE, TUNNEL, WEB

from ansible_collections.softwire.map.plugins.module_utils.softwire import flows, info as instance_info
from ansible_collections.softwire.map.plugins.module_utils.routers import bpf_rule, render

MAP_ADDRESS = "2001:db8:12:3400:0:c000:212:34"
ROUTER = """
for name in host other server wan inet; do ip netns add $name; ip -n $name link set lo up; done
ip link add isp type veth peer name wan0 netns wan
ip link add inet type veth peer name inet0 netns inet
ip link add lan type veth peer name lan0 netns host
ip link set isp up; ip link set inet up; ip link set lan up
ip -n wan link set wan0 up; ip -n inet link set inet0 up
ip -n host link add br0 type bridge
ip -n host link set lan0 master br0 up
ip -n host link set br0 up
ip -n host addr add 192.168.0.10/24 dev br0
ip -n host link add port1 type veth peer name eth0 netns other
ip -n host link set port1 master br0 up
ip -n other addr add 192.168.0.11/24 dev eth0
ip -n other link set eth0 up
ip addr add 192.168.0.1/24 dev lan
for name in host other; do ip -n $name route add default via 192.168.0.1; done
"""
# Holds a socket of each kind for each port, until its standard input ends.
SEND = """
import socket, sys
for protocol, port in %r:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    made = socket.socket(socket.AF_INET, kind)
    made.bind(("", port))
    made.connect(("198.51.100.1", 53))
    if protocol == "udp":
        made.send(b"x")
"""
SERVE = "import socket, time; s = socket.create_server(('', {port}), backlog=50); print('ready', flush=True); time.sleep(60)"
# Says which port it was sent from.
HEAR = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', {port})); print('ready', flush=True); print(s.recvfrom(9)[1][1])"
JOOL = """#!/bin/sh
echo "$*" >> DIRECTORY/jool
case "$*" in *"stats display"*) printf 'JSTAT_RECEIVED6,4711\\nJSTAT_RECEIVED4,0\\nJSTAT_SUCCESS,18446744073709551615\\n' ;; esac
"""


@pytest.fixture
def router(sandbox):
    sandbox.sh(ROUTER)
    return sandbox


def listen(router, namespace, program, port):
    """Starts a program that says when it is ready; returns the file with what it says."""
    said = router.directory / f"{namespace}-{port}"
    router.sh(f'ip netns exec {namespace} python3 -c "{program.format(port=port)}" > {said} 2>&1 & until [ -s {said} ]; do sleep 0.1; done')
    return said


def rights():
    """The rights that the metrics' unit leaves, as setpriv takes them."""
    unit, = (path.read_text() for path in render.UNITS if path.name == "softwire-metrics@.service")
    names = re.search("^CapabilityBoundingSet=(.*)", unit, re.MULTILINE)[1].lower().replace("cap_", "").split()
    return ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all,+" + ",+".join(names)]


def info(router, generation, list_ports=False, **environment):
    """What the program in a generation finds."""
    show = f"import sys, json; sys.path.insert(0, sys.argv[1]); from softwire import info as i; print(json.dumps(i.collect(sys.argv[1], {list_ports})))"
    return json.loads(router.run(*rights(), "python3", "-BE", "-c", show, generation, **environment).stdout)


def metrics(router, generation):
    """What Prometheus would read: {(name, the labels that are not empty): value}."""
    file = router.directory / "softwire.prom"
    router.run(*rights(), "env", "-C", generation, "python3", "-BE", "-m", "softwire", "metrics", file)
    assert file.stat().st_mode & 0o777 == 0o644 and not list(router.directory.glob("*.new"))
    samples = {}
    for family in text_string_to_metric_families(file.read_text()):
        assert family.documentation and family.type in ("counter", "gauge"), family
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total") and sample.timestamp is None
            key = sample.name, *sorted(sample.labels.items())
            assert key not in samples
            samples[key] = sample.value
    return samples


def install(router, **changes):
    files, = role_variables.ce_generations(**{**MAPE, **changes}).values()
    return router.install(files)


def up(router, **changes):
    generation = install(router, **changes)
    assert router.softwire(generation, "up").stderr == ""
    router.sh(TUNNEL)
    return generation


def counted(found):
    return {(rule["rules"], rule["name"]): rule["packets"] for rule in found["rules"]}


def dropped(before, after):
    """What has counted in the meantime."""
    return {name: after[name] - before[name] for name in after if after[name] != before[name]}


@pytest.mark.parametrize("napt_namespace", ["", "napt"])
def test_ports_in_use_by_protocol_and_host(napt_namespace, router):
    forwards = [{**WEB, "protocol": "tcp", "to_address": "192.168.0.11"}]
    generation = up(router, napt_namespace=napt_namespace, port_forwards=forwards)
    idle = info(router, generation, list_ports=True)
    assert idle["ports"] == {
        "address": "192.0.2.18", "size": 252, "in_use": {"tcp": 0, "udp": 0, "icmp": 0}, "by_host": {}, "list": []}
    udp = [("udp", port) for port in range(5000, 5007)]
    router.run("ip", "netns", "exec", "host", "python3", "-c", SEND % udp)
    router.run("ip", "netns", "exec", "other", "python3", "-c", SEND % udp[:2])
    listen(router, "server", SERVE, 53)
    router.run("ip", "netns", "exec", "host", "python3", "-c", SEND % [("tcp", port) for port in (6000, 6001, 6002)])
    router.run("ip", "netns", "exec", "other", "ping", "-c1", "-W1", "198.51.100.1")
    # from outside, by the forwarded port
    listen(router, "other", SERVE, 80)
    router.run("ip", "netns", "exec", "server", "python3", "-c", "import socket; socket.create_connection(('192.0.2.18', 1232), 5)")
    # other customer edges share the address, so this leaves by a port, too
    router.run("ip", "netns", "exec", "host", "ping", "-c1", "-W1", "192.0.2.18", check=False)

    found = info(router, generation, list_ports=True)
    assert found["notices"] == [] and found["ports"]["size"] == 252
    assert found["ports"]["in_use"] == {"tcp": 4, "udp": 9, "icmp": 2}
    assert found["ports"]["by_host"] == {"192.168.0.10": {"tcp": 3, "udp": 7, "icmp": 1}, "192.168.0.11": {"tcp": 1, "udp": 2, "icmp": 1}}
    listed = found["ports"]["list"]
    own = {port for low, high in found["parameters"]["ce"]["port_ranges"] for port in range(low, high + 1)}
    assert len(listed) == 15 and {entry["port"] for entry in listed} <= own
    assert {"host": "192.168.0.11", "protocol": "tcp", "port": 1232} in listed
    # the real ports are those that the server has seen: the forwarded one is no other's
    assert [entry["host"] for entry in listed if entry["port"] == 1232] == ["192.168.0.11"]

    samples = metrics(router, generation)
    label = ("softwire", "ce")
    assert samples["softwire_ports", label] == 252
    assert {key[1][1]: value for key, value in samples.items() if key[0] == "softwire_ports_in_use"} == found["ports"]["in_use"]
    by_host = {key: value for key, value in samples.items() if key[0] == "softwire_host_ports_in_use"}
    assert by_host == {("softwire_host_ports_in_use", ("host", host), ("protocol", protocol), label): count
                       for host, counts in found["ports"]["by_host"].items() for protocol, count in counts.items()}


def test_an_index_is_shown_as_the_port_on_the_wire(router):
    generation = up(router, napt_namespace="")
    said = listen(router, "server", HEAR, 53)
    router.run("ip", "netns", "exec", "host", "python3", "-c", SEND % [("udp", 5000)])
    router.sh(f"until [ $(wc -l < {said}) = 2 ]; do sleep 0.1; done")
    entry, = info(router, generation, list_ports=True)["ports"]["list"]
    assert entry == {"host": "192.168.0.10", "protocol": "udp", "port": int(said.read_text().split()[1])}


def test_a_port_towards_two_places_is_one_port():
    """Linux gives a port to a second connection, of whatever host, when it goes elsewhere."""
    line = "udp 17 29 src=%s dst=%s sport=5000 dport=53 [UNREPLIED] src=%s dst=192.0.2.18 sport=53 dport=16400 mark=0 use=1"
    far = ["198.51.100.1", "198.51.100.2", "198.51.100.3"]
    lines = [line % (host, to, to) for host, to in zip(["192.168.0.10", "192.168.0.10", "192.168.0.11"], far)]
    other = "gre 47 29 src=192.168.0.10 dst=198.51.100.1 srckey=0x0 dstkey=0x0 src=198.51.100.1 dst=192.0.2.18 srckey=0x0 dstkey=0x0 mark=0 use=1"
    listings = {"-q": "\n".join([*lines, other]), "-d": ""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flows, "conntrack", lambda namespace, listing, which, address: listings[which])
        found = instance_info.ports_in_use("main", b"address 192.0.2.18\naddress 2001:db8::1\nports 16384 1232 100\n", True)
    assert (found["size"], found["in_use"]) == (100, {"tcp": 0, "udp": 1, "icmp": 0})
    assert found["by_host"] == {"192.168.0.10": {"udp": 1}, "192.168.0.11": {"udp": 1}}
    assert {entry["port"] for entry in found["list"]} == {1248}


SEND_UDP = "python3 -c \"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.18', {port}))\""
MAP_SOURCE = f"""
ip -n host addr add {MAP_ADDRESS}/128 dev br0 nodad
ip -n host -6 route add default via fe80::1 dev br0
ip -n host neigh add fe80::1 lladdr $(cat /sys/class/net/lan/address) dev br0
ip netns exec host ping -c1 -W1 -I {MAP_ADDRESS} 2001:db8:ffff::9 || true
"""
BY_WAN = """
ip -n wan addr add {source} dev wan0 {flags}
ip -n wan route add {target} dev wan0 src {address}
ip -n wan neigh add {target} lladdr $(cat /sys/class/net/isp/address) dev wan0
ip netns exec wan ping -c1 -W1 {target} || true
"""
DROPS = {
    ("napt", "forward_source"): "ip -n host addr add 10.9.9.9/32 dev br0; ip netns exec host ping -c1 -W1 -I 10.9.9.9 198.51.100.1 || true",
    ("napt", "unsolicited"): "ip netns exec server " + SEND_UDP.format(port=1233),
    ("guard", "map_address_spoofed"): MAP_SOURCE,
    ("guard", "untranslated"): BY_WAN.format(source="203.0.113.1/32", address="203.0.113.1", target="192.0.2.18", flags=""),
    ("guard", "outside_domain"): BY_WAN.format(source="2001:db8:6::9/128", address="2001:db8:6::9", target=MAP_ADDRESS, flags="nodad"),
}


@pytest.mark.parametrize("name", DROPS, ids=lambda name: name[1])
def test_a_dropped_packet_raises_the_counter_that_names_its_reason(name, router):
    generation = up(router, napt_namespace="")
    before = counted(info(router, generation))
    router.sh(DROPS[name])
    found = info(router, generation)
    assert dropped(before, counted(found)) == {name: 1}
    rule, = (rule for rule in found["rules"] if (rule["rules"], rule["name"]) == name)
    assert (rule["namespace"], rule["bytes"] > 20, len(rule["reason"]) > 10) == ("main", True, True)
    sample = "softwire_rule_packets_total", ("name", name[1]), ("namespace", "main"), ("rules", name[0]), ("softwire", "ce")
    assert metrics(router, generation)[sample] == rule["packets"]


def test_every_counter_of_the_rules_is_there(router):
    generation = up(router, napt_namespace="napt")
    found = {(rule["namespace"], rule["name"]) for rule in info(router, generation)["rules"]}
    files, = role_variables.ce_generations(**MAPE).values()
    assert found == {(path.split("/")[0], name) for path, text in files.items() if path.endswith(".nft")
                     for name in re.findall(r"^    counter (\w+) \{", text, re.MULTILINE)}
    assert len(found) > 10


def test_the_tunnel_counts_both_ways(router):
    generation = up(router, napt_namespace="")
    before = info(router, generation)["tunnel"]
    # three kilobytes out; nobody listens, and an error that comes back quotes half a kilobyte
    many = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); [s.sendto(bytes(1000), ('198.51.100.1', 9)) for _time in range(3)]"
    router.run("ip", "netns", "exec", "host", "python3", "-c", many)
    after = info(router, generation)["tunnel"]
    assert after["device"] == "ce-tun" and set(after["sent"]) == {"packets", "bytes", "errors", "dropped"}
    more = {(way, unit): after[way][unit] - before[way][unit] for way in ("sent", "received") for unit in ("packets", "bytes")}
    assert more["sent", "packets"] >= 3 and more["sent", "bytes"] >= 3 * 1028
    assert more["received", "packets"] >= 1 and 0 < more["received", "bytes"] < 3000
    sample = "softwire_tunnel_packets_total", ("device", "ce-tun"), ("direction", "sent"), ("softwire", "ce")
    assert metrics(router, generation)[sample] >= after["sent"]["packets"]


@pytest.mark.parametrize("napt_namespace, translates_in", [("", "xlat"), ("napt", "main")])
def test_the_translator_counts_where_it_is(napt_namespace, translates_in, router):
    (router.directory / "fakes" / "jool_siit").write_text(JOOL.replace("DIRECTORY", str(router.directory)))
    generation = router.install(role_variables.ce_generations(napt_namespace=napt_namespace, wan_gateway="")["jool_siit"])
    assert router.softwire(generation, "up").stderr == ""
    found = info(router, generation)
    assert found["translator"] == {"JSTAT_RECEIVED6": 4711, "JSTAT_RECEIVED4": 0, "JSTAT_SUCCESS": 2**64 - 1}
    assert (found["tunnel"], found["notices"], found["softwire"]) == (None, [], "jool_siit")
    assert set(found["programs"]) == set(bpf_rule.NAPT_COUNTERS)
    assert found["state"]["faults"] == []
    assert found["parameters"]["layout"]["namespaces"]["softwire"] == translates_in
    assert "-i ce stats display --all --csv --no-headers" in (router.directory / "jool").read_text()
    samples = metrics(router, generation)
    assert samples["softwire_translator_total", ("counter", "JSTAT_RECEIVED6"), ("softwire", "ce")] == 4711


def test_what_is_missing_is_said_and_no_reason_to_fail(router):
    generation = router.install(role_variables.ce_generations(napt_namespace="", wan_gateway="")["jool_siit"])
    assert router.softwire(generation, "up").stderr == ""
    (router.directory / "fakes" / "jool_siit").write_text("#!/bin/sh\necho \"Error: no such instance\" >&2\nexit 1\n")
    (router.directory / "fakes" / "bpftool").unlink()
    found = info(router, generation, PATH=f"{router.directory}/fakes:/usr/bin:/bin")
    assert (found["translator"], found["ports"], found["rules"]) == (None, None, [])
    assert {text.split(":")[0] for text in found["notices"]} == {
        "counters of main/guard.nft", "counters of main/napt.nft", "state", "translator", "programs", "ports"}
    assert any("'conntrack'" in text for text in found["notices"]) and any("no such instance" in text for text in found["notices"])
    assert found["state"]["equal"] is False
    samples = metrics(router, generation)  # with its own path
    assert samples["softwire_notices", ("softwire", "ce")] == 1
    assert not [key for key in samples if key[0] == "softwire_translator_total"]


def test_whether_the_router_runs_what_the_generation_says(router):
    generation = up(router, napt_namespace="")
    first = info(router, generation)
    assert first["state"] == {"equal": True, "applied": first["generation"], "faults": []}
    label = ("softwire", "ce")
    assert metrics(router, generation)["softwire_state_equal", label] == 1
    router.sh("ip addr del 192.0.0.2/32 dev ce-tun")
    lacking = info(router, generation)
    assert lacking["state"]["equal"] is False and lacking["state"]["faults"] == ["address 192.0.0.2/32 (namespace main): missing"]
    samples = metrics(router, generation)
    assert (samples["softwire_state_equal", label], samples["softwire_state_faults", label]) == (0, 1)
    router.sh("ip addr add 192.0.0.2/32 dev ce-tun; ip route add default dev ce-tun table 7598")
    # another one is current, but not yet applied
    second = install(router, napt_namespace="", reserved_ports=[1233])
    found = info(router, second)
    assert found["generation"] != first["generation"] and found["state"] == {
        "equal": False, "applied": first["generation"], "faults": [f"generation {first['generation']} is applied"]}
    router.softwire(second, "down", check=False)
    assert info(router, second)["state"]["faults"][0] == "no generation as a whole is applied"


@pytest.mark.parametrize("change, undo, fault", [
    ("nft insert rule ip softwire_ce_napt uninvited accept", "", "nftables table ip softwire_ce_napt (namespace main): not as it was loaded"),
    ("bpftool map update pinned /run/softwire/ce/bpf/napt/maps/config key hex 00 00 00 00 value hex" + " 00" * 24, "",
     "BPF map napt/config: not as it was loaded"),
    ("tc filter del dev ce-tun egress pref 7590", "", "program napt_out on ce-tun egress (namespace main): missing"),
    ("ip route del default dev ce-tun table 7598", "ip route add default dev ce-tun table 7598",
     "route add default dev ce-tun table 7598 (namespace main): missing"),
    ("ip rule del pref 31001", "ip rule add pref 31001 iif lan lookup 7598", "rule add pref 31001 iif lan lookup 7598 (namespace main): missing"),
    ("sysctl -qw net.ipv4.conf.ce-tun.rp_filter=1", "sysctl -qw net.ipv4.conf.ce-tun.rp_filter=2",
     "sysctl net/ipv4/conf/ce-tun/rp_filter (namespace main): 1, not 2"),
])
def test_what_somebody_changed_since_is_named(change, undo, fault, router):
    generation = up(router, napt_namespace="")
    router.sh(change)
    assert info(router, generation)["state"]["faults"] == [fault]
    if undo:
        router.sh(undo)
        assert info(router, generation)["state"]["equal"]


@pytest.mark.parametrize("case", ["shared", "ipv4_prefix"])
@pytest.mark.parametrize("napt_namespace", ["", "napt"])
def test_what_was_brought_up_or_reloaded_is_as_its_generation_says(case, napt_namespace, router):
    layout = {**role_variables.MAPE_CASES[case], "napt_namespace": napt_namespace}
    generation = up(router, **layout)
    assert info(router, generation)["state"]["faults"] == []
    generation = install(router, **layout, max_ports_per_client=5)
    assert router.softwire(generation, "reload").stderr == ""
    assert info(router, generation)["state"]["faults"] == []


def test_the_firewall_of_the_lan_s_ipv6_counts_and_is_watched(router):
    generation = up(router, ipv6_firewall="stateful")
    found = info(router, generation)
    assert counted(found)["ipv6_firewall", "unsolicited"] == 0 and found["state"]["faults"] == []
    labels = {"softwire": "ce", "namespace": "main", "rules": "ipv6_firewall", "name": "unsolicited"}
    assert metrics(router, generation)[("softwire_rule_packets_total", *sorted(labels.items()))] == 0
    router.sh("nft delete element ip6 softwire_ce_ipv6_firewall settling { tcp }")  # as it goes by itself
    assert info(router, generation)["state"]["faults"] == []
    router.sh("nft flush chain ip6 softwire_ce_ipv6_firewall inbound")
    assert info(router, generation)["state"]["faults"] == ["nftables table ip6 softwire_ce_ipv6_firewall (namespace main): not as it was loaded"]


def test_a_border_relay_names_what_its_programs_dropped(router):
    generation = router.install(role_variables.br_generations()["jool_siit"])
    assert router.softwire(generation, "up").stderr == ""
    found = info(router, generation)
    assert set(found["programs"]) == set(bpf_rule.COUNTERS) and (found["ports"], found["tunnel"], found["role"]) == (None, None, "br")
    assert not any(found["programs"].values()) and found["notices"] == [] and found["state"]["faults"] == []
    ce = json.loads(role_variables.ce_generations()["jool_siit"]["parameters.json"])["ce"]
    send = "import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.bind(('%s', %d)); s.sendto(b'x', ('64:ff9b::c633:6401', 53))"
    router.sh(f"""
        ip -n wan addr add {ce['map_address']}/128 dev wan0 nodad; ip -n wan addr add 2001:db8:6::9/128 dev wan0 nodad
        ip -n wan route add 64:ff9b::/96 via fe80::1 dev wan0
        ip -n wan neigh add fe80::1 lladdr $(cat /sys/class/net/isp/address) dev wan0""")
    low, high = ce["port_ranges"][0]
    for source, port, times in ((ce["map_address"], low, 3), (ce["map_address"], high + 1, 2), ("2001:db8:6::9", low, 1)):
        for _time in range(times):
            router.run("ip", "netns", "exec", "wan", "python3", "-c", send % (source, port))
    router.sh("""ip -n inet addr add 192.0.2.8/32 dev inet0; ip -n inet route add 203.0.113.9 dev inet0
        ip -n inet neigh add 203.0.113.9 lladdr $(cat /sys/class/net/inet/address) dev inet0
        ip netns exec inet ping -c1 -W1 -I 192.0.2.8 203.0.113.9 || true""")
    after = info(router, generation)
    # no translator here: what passed comes round, with the internal address that it has got
    assert dropped(found["programs"], after["programs"]) == {
        "in_passed": 3, "in_dropped_spoofed": 2, "in_dropped_no_rule": 1, "in_dropped_internal": 3}
    assert dropped(counted(found), counted(after)) == {("guard", "own_prefix"): 1}
    samples = metrics(router, generation)
    assert samples["softwire_program_packets_total", ("direction", "in"), ("result", "dropped_spoofed"), ("softwire", "br")] == 2
    assert len([key for key in samples if key[0] == "softwire_program_packets_total"]) == len(bpf_rule.COUNTERS)
