# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module probe and the playbook verify: a customer edge's NAPT, and an internet that answers, in namespaces."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import role_variables
import pytest
import doc_samples
import yaml

from ansible_collections.softwire.map.plugins.modules import probe
from ansible_collections.softwire.map.plugins.module_utils.softwire import probing

REPOSITORY = Path(__file__).resolve().parents[3]
FAR_END = "203.0.113.53"
CASE = "offset_6_with_forwards"
CE = {"ipv4_address": "192.0.2.18", "ipv4_prefix": None, "port_ranges": [[1232, 1235], [2256, 2259]]}
# RFC 5769 section 2.2
STUN_RESPONSE = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96")
TRANSACTION = STUN_RESPONSE[8:20]


def test_stun_tells_the_address_of_the_rfc():
    assert probing.stun_address(STUN_RESPONSE, TRANSACTION) == ("192.0.2.1", 32853)


@pytest.mark.parametrize("message", [
    b"", STUN_RESPONSE[:19], b"\1\x11" + STUN_RESPONSE[2:], STUN_RESPONSE[:8] + bytes(12) + STUN_RESPONSE[20:], STUN_RESPONSE[:40],
])
def test_what_is_no_answer_to_ours_tells_nothing(message):
    assert probing.stun_address(message, TRANSACTION) is None


def test_an_old_server_tells_the_plain_address():
    attribute = bytes.fromhex("00010008 0001 04d0 c0000212")
    assert probing.stun_address(STUN_RESPONSE[:2] + b"\0\x0c" + STUN_RESPONSE[4:20] + attribute, TRANSACTION) == ("192.0.2.18", 1232)


def test_an_echo_request_has_the_right_checksum():
    packet = probing.echo_request(0xABCD, 1)
    assert probing.checksum(packet) == 0 and packet[:2] == b"\x08\0"
    reply = b"\x46" + bytes(23) + b"\0\0" + packet[2:]
    assert probing.is_reply(reply, 0xABCD) and not probing.is_reply(reply, 0xABCE)
    assert not probing.is_reply(reply[:24] + packet, 0xABCD)


LISTED = [
    "tcp      6 117 SYN_SENT src=192.168.0.1 dst=203.0.113.53 sport=40001 dport=53 [UNREPLIED]"
    " src=203.0.113.53 dst=192.0.2.18 sport=53 dport=16399 mark=0 use=2",
    "tcp      6 117 SYN_SENT src=192.168.0.1 dst=203.0.113.53 sport=40000 dport=53 [UNREPLIED]"
    " src=203.0.113.53 dst=192.0.2.18 sport=53 dport=16400 mark=0 use=2",
    "icmp     1 29 src=192.168.0.1 dst=203.0.113.53 type=8 code=0 id=40000 src=203.0.113.53 dst=192.0.2.18 type=0 code=0 id=16385 mark=0 use=2",
]


@pytest.mark.parametrize("protocol, port, source", [
    ("tcp", 40000, (("192.0.2.18", 1248), "conntrack")), ("icmp", 40000, (("192.0.2.18", 1233), "conntrack")),
    ("tcp", 40001, (("192.0.2.18", 16399), "conntrack")), ("tcp", 40002, (None, "")), ("udp", 40000, (None, "")),
])
def test_the_source_of_a_flow_in_conntrack(protocol, port, source, monkeypatch):
    def conntrack(namespace, *arguments):
        assert (namespace, arguments) == ("main", ("-L", "-p", protocol, "-s", "192.168.0.1", "-d", FAR_END))
        return "\n".join(line for line in LISTED if line.startswith(protocol))

    monkeypatch.setattr(probing.flows, "conntrack", conntrack)
    tried = probing.Probe({}, {16385: 1233, 16400: 1248}, {}, "192.168.0.1")
    assert tried.conntrack(protocol, port, FAR_END) == source


def test_without_conntrack_nobody_tells(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert probing.Probe({}, {}, {}, "192.168.0.1").conntrack("tcp", 40000, FAR_END) == (None, "")


@pytest.mark.parametrize("address, port, own", [
    ("192.0.2.18", 1232, True), ("192.0.2.18", 2259, True), ("192.0.2.18", 1236, False), ("192.0.2.19", 1232, False),
])
def test_what_belongs_to_a_ce(address, port, own):
    assert probing.belongs(address, port, CE) is own


def test_it_sends_from_the_lan_if_it_can():
    links = [
        {"ifname": "ce-main", "addr_info": [{"family": "inet", "local": "192.0.0.2"}]},
        {"ifname": "lan", "addr_info": [{"family": "inet6", "local": "fe80::1"}, {"family": "inet", "local": "192.168.0.1"}]},
        {"ifname": "eth9", "addr_info": [{"family": "inet", "local": "10.0.0.1"}]},
    ]
    napt = {"sources": ["192.168.0.0/24", "192.0.0.0/29"], "lan_interfaces": ["lan"]}
    assert probing.local_address(links, napt, None) == "192.168.0.1"
    assert probing.local_address(links[:1], napt, None) == "192.0.0.2"
    assert probing.local_address(links, {**napt, "sources": ["192.0.0.0/29"]}, "10.0.0.0/28") == "10.0.0.1"
    with pytest.raises(probing.ProbeError, match=r"no address in 192.168.0.0/24, 192.0.0.0/29"):
        probing.local_address(links[2:], napt, None)


def check(name, fault="", source="", seen_by=""):
    return {"name": name, "fault": fault, "source": source, "seen_by": seen_by}


@pytest.mark.parametrize("checks, works, line", [
    ([check("ping"), check("TCP", source="192.0.2.18:1232", seen_by="conntrack"),
      check("UDP", source="192.0.2.18:1233", seen_by="the STUN server")], True,
     "works (ping, TCP, UDP), seen from 192.0.2.18:1233 (UDP, by the STUN server)"),
    ([check("ping", "no answer within 2 s"), check("TCP"), check("UDP", "refused")], False,
     "FAILS: ping: no answer within 2 s; UDP: refused; works: TCP"),
    ([check("ping", "x")], False, "FAILS: ping: x"),
    ([check("ping"), check("TCP"), check("UDP")], False,
     "FAILS: nobody tells the source that leaves: conntrack lists none of them; give a STUN server; works: ping, TCP, UDP"),
])
def test_the_verdict(checks, works, line):
    assert probe.verdict(checks) == (works, line)


class Network:
    """The router of the sandbox with one instance up, as far as the NAPT goes: behind it is the internet, with no softwire."""

    def __init__(self, sandbox, layout):
        self.sandbox, self.layout = sandbox, layout
        sandbox.sh(f"mkdir {sandbox.directory}/etc && cp -a /etc/. {sandbox.directory}/etc && mount --bind {sandbox.directory}/etc /etc"
                   f" && mkdir -p /etc/softwire /run/netns && ip netns add net && ip -n net link set lo up")
        if layout == "napt":
            self.inside, self.device = ["ip", "netns", "exec", "napt"], "ce-main"
            files = role_variables.ce_generations(**role_variables.CE_CASES[CASE])["jool_siit"]
            sandbox.sh("ip netns add napt")
        else:
            self.inside, self.device = [], "ce-tun"
            domain = {**role_variables.rule_domain(ea_length=16), "transport": "map-e", "br_address": "2001:db8:ffff::1"}
            del domain["dmr"]
            variables = {**role_variables.CE_CASES[CASE], "domain": domain, "napt_namespace": ""}
            files = role_variables.ce_generations(**variables)["ip6_tunnel"]
        current = Path(sandbox.directory, "etc/softwire/ce/current")
        for path, content in files.items():
            (current / path).parent.mkdir(parents=True, exist_ok=True)
            (current / path).write_bytes(content if isinstance(content, bytes) else content.encode())
        self.rules = current / layout / "napt.nft"
        sandbox.sh(f"ip link add {self.device} type veth peer name s0 netns net"
                   " && ip link add lan type veth peer name lan1 && ip link set lan1 up")
        sandbox.sh("ip netns exec net sysctl -qw net.ipv4.conf.s0.proxy_arp=1 && ip -n net link set s0 up"
                   f" && ip -n net addr add 192.0.0.1/29 dev s0 && ip -n net addr add {FAR_END}/32 dev lo"
                   " && ip -n net route add 192.0.2.0/24 via 192.0.0.2")
        if layout == "napt":
            sandbox.sh("for link in ce-main lan; do ip link set $link netns napt; done && ip -n napt -batch " + str(current / "napt/ip"))
        else:
            # The router has IPv4 of its own as well, which leads nowhere: the probe must not take it.
            sandbox.sh("ip link add uplink type veth peer name uplink1 && ip link set uplink1 up && ip link set uplink up"
                       " && ip addr add 10.0.0.1/24 dev uplink"
                       " && ip route add default via 10.0.0.2 && ip link set lan up && ip addr add 192.168.0.1/24 dev lan"
                       " && ip link set ce-tun up && ip addr add 192.0.0.2/29 dev ce-tun"
                       " && ip route add default dev ce-tun table 7598 && ip rule add pref 40000 iif lo lookup 7598")
        sandbox.run(*self.inside, "nft", "-f", self.rules)
        sandbox.sh("mkdir -p /run/softwire/ce/bpf && mount -t bpf bpf /run/softwire/ce/bpf && mkdir /run/softwire/ce/bpf/napt")
        sandbox.run("env", "-C", current / layout, "sh", "-ec", "grep '^[a-z]' bpftool | while read -r line; do bpftool $line; done")
        sandbox.run(*self.inside, "env", "-C", current / layout, "sh", "-ec", "grep '^[a-z]' tc | while read -r line; do tc $line; done")

    def serve(self, *options):
        inside = ["nsenter", "-t", self.sandbox.process, "-n", "-m", "-p", "ip", "netns", "exec", "net"]
        program = [sys.executable, str(Path(__file__).with_name("far_end.py")), FAR_END, *options]
        server = subprocess.Popen([*inside, *program], stdout=subprocess.PIPE, text=True)
        assert server.stdout.readline() == "ready\n"
        server.stdout.close()

    def verify(self, *arguments, hosts=None, playbook=REPOSITORY / "playbooks/verify.yml", **variables):
        """Runs a playbook on this router: (exit code, {host: line of the summary}, all it said)."""
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
        inventory = Path(self.sandbox.directory, "inventory.yml")
        inventory.write_text(yaml.safe_dump({"map_ce": {"hosts": hosts or {"ce1": {}}, "vars": {
            **local, "map_verify_target": FAR_END, **variables}}}))
        home = self.sandbox.directory
        done = self.sandbox.run(
            sys.executable, "-m", "ansible", "playbook", "-i", inventory, playbook, *arguments, check=False,
            HOME=str(home), ANSIBLE_COLLECTIONS_PATH=str(REPOSITORY / "collections"), ANSIBLE_NOCOLOR="1")
        said = done.stdout + done.stderr
        assert "Traceback" not in said, said
        found = re.search(r"TASK \[Summary\].*?\"msg\": (\[.*?\n    \])", said, re.DOTALL)
        lines = json.loads(found.group(1)) if found else []
        return done.returncode, dict(re.split(r"  +", line, maxsplit=1) for line in lines), said


@pytest.mark.parametrize("layout", ["napt", "main"])
def test_a_customer_edge_that_works(sandbox, layout):
    network = Network(sandbox, layout)
    network.serve()
    code, summary, said = network.verify("--check", map_verify_stun_server=FAR_END)
    assert code == 0, said
    found = re.fullmatch(r"works \(ping, TCP, UDP\), seen from 192\.0\.2\.18:(\d+) \(UDP, by the STUN server\)", summary["ce1"])
    edge = json.loads((network.rules.parents[1] / "parameters.json").read_text())
    assert found and probing.belongs("192.0.2.18", int(found.group(1)), edge["ce"]), said
    code, summary, said = network.verify("-v")
    assert code == 0 and re.search(r"seen from 192\.0\.2\.18:\d+ \(ping, by conntrack\)", summary["ce1"]), said


def test_the_example_gives_the_stated_result(sandbox):
    network = Network(sandbox, "napt")
    network.serve()
    (sample,) = doc_samples.stated(probe.EXAMPLES, "probe")
    sample.task["softwire.map.probe"].update(target=FAR_END, stun_server=FAR_END)
    holds = [f"tried.{key} == {value}" for key, value in sample.expected.items()]
    playbook = Path(sandbox.directory, "example.yml")
    playbook.write_text(yaml.safe_dump([
        {"hosts": "map_ce", "gather_facts": False, "tasks": [sample.task, {"ansible.builtin.assert": {"that": holds}}]}]))
    code, _summary, said = network.verify(playbook=playbook)
    assert code == 0, said


def test_stun_over_tcp_is_believed_where_there_is_one(sandbox):
    network = Network(sandbox, "napt")
    network.serve("stun-tcp")
    code, _summary, said = network.verify("-v", map_verify_stun_server=FAR_END)
    assert code == 0 and said.count('"seen_by": "the STUN server"') == 2, said


def test_a_source_that_is_not_ours(sandbox):
    network = Network(sandbox, "napt")
    network.serve()
    sandbox.sh("ip netns exec napt tc qdisc del dev ce-main clsact")
    sandbox.sh("ip netns exec napt nft 'flush ruleset; add table ip t; add chain ip t c { type nat hook postrouting priority 100; };"
               " add rule ip t c masquerade'")
    code, summary, said = network.verify(map_verify_stun_server=FAR_END)
    assert code == 2, said
    for protocol, seen_by in (("ping", "conntrack"), ("TCP", "conntrack"), ("UDP", "the STUN server")):
        assert re.search(rf"{protocol}: leaves from 192\.0\.0\.2:\d+, which is not of this CE \(seen by {seen_by}\)", summary["ce1"])


def test_the_summary_has_a_line_for_every_customer_edge(sandbox):
    network = Network(sandbox, "napt")
    network.serve()
    sandbox.sh("ip netns exec net nft 'add table ip t; add chain ip t c { type filter hook input priority 0; };"
               " add rule ip t c tcp dport 53 drop'")
    hosts = {
        "ce1": {}, "ce2": {"map_ce_instance": "other"}, "ce3": {"map_ce_state": "absent"},
        "ce4": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 9},
    }
    code, summary, said = network.verify(hosts=hosts)
    assert code == 2, said
    assert summary["ce1"] == "FAILS: TCP: no answer within 2 s; works: ping, UDP"
    assert summary["ce2"].startswith("FAILS: instance other: nothing is deployed here")
    assert summary["ce3"] == "absent, not tried"
    assert summary["ce4"].startswith("FAILS: ") and "refused" in summary["ce4"]
    recap = dict(re.findall(r"^(ce\d) .*failed=(\d)", said, re.MULTILINE))
    assert recap == {"ce1": "1", "ce2": "1", "ce3": "0", "ce4": "1"}
    code, summary, said = network.verify("--limit", "ce3", hosts=hosts)
    assert code == 0 and list(summary) == ["ce3"], said


def test_a_target_is_required(sandbox):
    network = Network(sandbox, "napt")
    hosts = {"ce1": {}, "ce2": {}}
    code, summary, said = network.verify(hosts=hosts, map_verify_target=None)
    assert code == 2 and summary == {} and said.count("fatal: ") == 1, said
    assert "map_verify_target: not set" in said
