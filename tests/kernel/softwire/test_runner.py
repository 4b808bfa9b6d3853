# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runner in a machine of its own, with real links, routes, nftables and BPF programs; only Jool is a script, the tunnel a bridge."""

from __future__ import annotations

import difflib
import json
import re
import time

import role_variables
import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import commands, runner

# Each transport in each layout.
EDGES = {
    **{f"mapt_{layout}": {"napt_namespace": napt, "translator": "jool_siit"} for layout, napt in role_variables.LAYOUTS.items()},
    **{f"mape_{layout}": {"napt_namespace": napt, **role_variables.MAPE_CASES["shared"]} for layout, napt in role_variables.MAPE_LAYOUTS.items()},
    **{f"mape_mesh_{layout}": {"napt_namespace": napt, "mesh": True, **role_variables.MAPE_CASES["shared"]}
       for layout, napt in role_variables.MAPE_LAYOUTS.items()},
}
MAPT_EDGES = [edge for edge in EDGES if edge.startswith("mapt")]
MAPE_EDGES = [edge for edge in EDGES if edge.startswith("mape")]
# Each has lines for "ip" that the first customer edge of its kind has not.
KINDS = {
    "mapt_napt_namespace": ("no_gateway", "ipv4_prefix", "two_lans"),
    "mapt_translator_namespace": ("link_local_gateway", "ipv4_prefix", "two_lans"),
    "mape_napt_namespace": ("no_gateway", "ipv4_prefix", "two_lans"),
    "mape_main": ("no_gateway", "ipv4_prefix", "two_lans"),
    "mape_mesh_napt_namespace": ("no_gateway", "ipv4_prefix", "two_lans"),
    "mape_mesh_main": ("no_gateway", "ipv4_prefix", "two_lans"),
}


@pytest.fixture(params=EDGES)
def edge(request):
    return request.param


def files_of(edge, **changes):
    files, = role_variables.ce_generations(**{**EDGES[edge], **changes}).values()
    return files


def napt_of(edge):
    return EDGES[edge]["napt_namespace"] or "main"


def install_ce(router, edge, **changes):
    return router.install(files_of(edge, **changes))


def unchanged(router, before):
    assert "\n".join(difflib.unified_diff(before, router.snapshot(), "before", "after", n=0, lineterm="")) == ""


def added(before, after):
    rest = list(after)
    for line in before:
        if line in rest:
            rest.remove(line)
    return "\n".join(rest)


@pytest.mark.parametrize("edge", MAPT_EDGES)
def test_a_customer_edge_comes_up_and_goes_without_a_trace(router, edge):
    before = router.snapshot()
    generation = install_ce(router, edge)
    assert router.softwire(generation, "up").stderr == ""
    made = added(before, router.snapshot())
    for part in ("ce-veth", "192.0.2.8", "2001:db8:ce:11a:0:c000:208:1a dev isp proxy", "64:ff9b::/96 via 2001:db8:6::1",
                 "unreachable 2001:db8:ce:11a::/64", "40000:", "table inet softwire_ce_guard", "ipv4/conf/all/forwarding:1"):
        assert part in made, part
    other = "napt" if napt_of(edge) == "napt" else "xlat"
    assert router.sh("ip netns").split()[0] == other
    tables = router.run("ip", "netns", "exec", "napt", "nft", "list", "tables") if other == "napt" else router.run("nft", "list", "tables")
    assert "table ip softwire_ce_napt" in tables.stdout
    inside = router.run("ip", "-n", other, "-brief", "addr").stdout
    assert "ce-main" in inside and ("192.168.0.1/24" in inside) is (other == "napt")
    assert router.run("ip", "netns", "exec", other, "sysctl", "-n", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding").stdout == "1\n1\n"
    translator_in = router.main if other == "napt" else router.namespace("xlat")
    where, words = router.calls()[-1]
    assert (where, words[:3]) == (translator_in, ["jool_siit", "file", "handle"])
    assert words[3].endswith("/main/jool.json" if other == "napt" else "/xlat/jool.json")
    assert router.softwire(generation, "down").stderr == ""
    unchanged(router, before)
    removed = (router.main, ["jool_siit", "instance", "remove", "ce"])
    assert (removed in router.calls()) is (other == "napt")  # in the other layout it goes with its namespace
    assert router.softwire(generation, "down").stderr == ""
    unchanged(router, before)


@pytest.mark.parametrize("edge", MAPE_EDGES)
def test_a_customer_edge_with_a_tunnel_comes_up_and_goes_without_a_trace(router, edge):
    before = router.snapshot()
    generation = install_ce(router, edge)
    assert router.softwire(generation, "up").stderr == ""
    made = added(before, router.snapshot())
    for part in ("ce-tun: <", "mtu 1460", "2001:db8:12:3400:0:c000:212:34/128 scope global nodad deprecated",
                 "default dev ce-tun table 7598", "2001:db8:ffff::1 via 2001:db8:6::1", "unreachable 2001:db8:12:3400::/56",
                 "40000:", "table inet softwire_ce_guard", "ipv4/conf/all/forwarding:1", "ipv4/conf/ce-tun/rp_filter:2"):
        assert part in made, part
    if napt_of(edge) == "napt":
        assert router.sh("ip netns").split()[0] == "napt"
        assert "30000:\tfrom all to 192.0.2.18 iif ce-main blackhole" in router.run("ip", "-n", "napt", "rule").stdout
        assert "192.168.0.1/24" in router.run("ip", "-n", "napt", "-brief", "addr").stdout
        tables = router.run("ip", "netns", "exec", "napt", "nft", "list", "tables").stdout
    else:
        assert router.sh("ip netns") == ""
        assert "30000:\tfrom all to 192.0.2.18 iif ce-tun blackhole" in made
        tables = router.run("nft", "list", "tables").stdout
    assert "table ip softwire_ce_napt" in tables
    for _twice in range(2):
        assert router.softwire(generation, "down").stderr == ""
        unchanged(router, before)


@pytest.mark.parametrize("edge", MAPE_EDGES)
def test_ip_understands_the_tunnel(router, edge):
    """The real "ip" reads the line; a kernel without ip6_tunnel refuses it only because it has no such device."""
    router.softwire(install_ce(router, edge), "up")
    line, = router.tunnels()
    done = router.run("ip", *line.replace("ce-tun", "other-tun").split(), check=False)
    assert done.returncode == 0 or done.stderr == "Error: Unknown device type.\n"


def test_interfaces_may_be_called_like_words_of_ip(router):
    router.sh("ip link set dev lan down; ip link set dev lan name netns; ip link set dev isp down; ip link set dev isp name add;"
              "ip link set dev netns up; ip link set dev add up; ip addr add 2001:db8:6::2/64 dev add")
    before = router.sh("ip -4 route; ip rule; ip -brief link")
    generation = install_ce(router, "mapt_napt_namespace", wan_interface="add", lan_interfaces=["netns"])
    assert router.softwire(generation, "up").stderr == ""
    assert "192.168.0.1/24" in router.run("ip", "-n", "napt", "addr", "show", "dev", "netns").stdout
    assert router.softwire(generation, "down").stderr == ""
    assert router.sh("ip -4 route; ip rule; ip -brief link") == before


def test_every_kind_of_customer_edge_comes_up(router, edge):
    before = [line for line in router.snapshot() if "lan" not in line]
    for kind in KINDS[edge]:
        case = role_variables.CE_CASES[kind] if edge in MAPT_EDGES else role_variables.MAPE_CASES[kind]
        generation = install_ce(router, edge, **case)
        assert router.softwire(generation, "up").stderr == "", kind
        assert router.softwire(generation, "down").stderr == "", kind
    assert [line for line in router.snapshot() if "lan" not in line] == before


def test_an_interface_without_carrier_gets_its_routes_back(router):
    router.sh("ip link set lan-peer down")
    routes = router.sh("ip route; ip -6 route show dev lan | grep -v ^fe80")
    assert "linkdown" in routes
    generation = install_ce(router, "mapt_napt_namespace")
    router.softwire(generation, "up")
    assert "dev lan" not in router.sh("ip route")
    assert router.softwire(generation, "down").stderr == ""
    assert router.sh("ip route; ip -6 route show dev lan | grep -v ^fe80") == routes


def places(router, generation, count):
    """The numbers of some steps of "up", the last one among them; the instance is up after it."""
    router.softwire(generation, "up", fault="none")
    total = len(router.steps())
    return [total * share // count for share in range(1, count + 1)]


def test_a_step_that_fails_leaves_nothing(router, edge):
    before = router.snapshot()
    generation = install_ce(router, edge)
    for at in places(router, generation, 3):
        router.softwire(generation, "down")
        done = router.softwire(generation, "up", check=False, fault="fail", at=at)
        assert done.returncode == 1
        assert "broken on purpose" in done.stderr and done.stderr.count("\n") == 1, done.stderr
        unchanged(router, before)


def test_up_cleans_what_a_killed_one_left(router, edge):
    before = router.snapshot()
    generation = install_ce(router, edge)
    steps = places(router, generation, 3)
    up = without_addresses(router.snapshot())
    for at in steps:
        router.softwire(generation, "down")
        assert router.softwire(generation, "up", check=False, fault="kill", at=at).returncode == -9
        assert router.softwire(generation, "up").returncode == 0, at
        settles(lambda: without_addresses(router.snapshot()), up, at)
    router.softwire(generation, "down")
    unchanged(router, before)


def settles(look, expected, where):
    """The kernel notices carriers a moment later, on a busy machine later still."""
    deadline = time.monotonic() + 10
    while look() != expected and time.monotonic() < deadline:
        time.sleep(0.2)
    assert look() == expected, where


def topology(lines):
    """A snapshot without the rules, and without what the kernel makes of a carrier a moment later."""
    return [line for line in lines if line and not line.startswith("\t") and not any(word in line for word in ("fe80::", "ff00::", "_lft", "ce-veth"))]


def without_addresses(lines):
    """Our links get new hardware addresses and numbers each time."""
    lines = sorted(re.sub(r"^\d+: (ce-tun: )", r"\1", line) for line in lines)
    return [line for line in lines if not any(word in line for word in ("link/ether", "fe80::", "veth", "/run/softwire"))]


def test_down_after_a_kill_between_the_journal_and_the_step(router):
    """The journal may name a step that was never taken: down says so and goes on."""
    before = router.snapshot()
    generation = install_ce(router, "mapt_napt_namespace")
    router.softwire(generation, "up")
    with_fault = json.dumps({"run": ["ip", "link", "del", "never-made"]})
    router.sh(f"echo '{with_fault}' >> /run/softwire/ce/journal")
    done = router.softwire(generation, "down")
    assert 'Cannot find device "never-made"' in done.stderr
    unchanged(router, before)


@pytest.mark.parametrize("action", ["up", "down", "reload"])
def test_torn_files_are_understood(action, router):
    """A torn line of the journal was never acted upon; where nothing is known to be applied, a reload restarts."""
    before = router.snapshot()
    generation = install_ce(router, "mape_main")
    router.softwire(generation, "up")
    up = router.sh("cd /run/softwire/ce; cat journal applied")
    router.sh("cd /run/softwire/ce; printf '{\"run\": [\"ip\", \"li' >> journal; : > applied; : > loaded; : > repairs")
    assert router.softwire(generation, action).stderr == ""
    if action != "down":
        assert router.sh("cd /run/softwire/ce; cat journal applied") == up
        assert router.softwire(generation, "down").stderr == ""
    unchanged(router, before)


@pytest.mark.parametrize("action", ["up", "down", "reload"])
def test_a_journal_of_a_later_version_is_refused_and_kept(action, router):
    generation = install_ce(router, "mape_main")
    router.softwire(generation, "up")
    journal = router.sh("cat /run/softwire/ce/journal")
    assert journal.startswith('{"format": 1, "try": ["true"]}\n') and journal.count("format") == 1
    router.sh("sed -i 's/\"format\": 1/\"format\": 2/' /run/softwire/ce/journal")
    before = router.snapshot()
    done = router.softwire(generation, action, check=False)
    assert (done.returncode, done.stderr) == (
        1, "softwire: /run/softwire/ce/journal: format 2, written by a later version of softwire.map; this one reads formats up to 1, "
           "so use that version\n")
    assert router.snapshot() == before


def test_nft_that_refuses_leaves_nothing(router, edge):
    before = router.snapshot()
    files = files_of(edge)
    napt = f"{napt_of(edge)}/napt.nft"
    generation = router.install(dict(files, **{napt: files[napt].replace("policy accept", "policy perhaps")}))
    done = router.softwire(generation, "up", check=False)
    assert done.returncode == 1 and "napt.nft" in done.stderr and "perhaps" in done.stderr
    unchanged(router, before)


def test_reload_keeps_links_and_flows(router, edge):
    router.softwire(install_ce(router, edge), "up")
    inside = ["ip", "netns", "exec", "napt"] if napt_of(edge) == "napt" else []
    port, jool = (53300, [["jool_siit", "file", "handle"]]) if edge in MAPT_EDGES else (1233, [])
    flow = ["-p", "udp", "-s", "192.168.0.10", "-d", "198.51.100.1", "--sport", "1000", "--dport", "53", "--timeout", "100"]
    router.run(*inside, "conntrack", "-I", *flow)
    journal = router.sh("cat /run/softwire/ce/journal")
    before = router.snapshot()
    generation = install_ce(router, edge, reserved_ports=[port])
    calls = len(router.calls())
    assert router.softwire(generation, "reload").stderr == ""
    assert [words[:3] for _where, words in router.calls()[calls:]] == jool
    assert f"th sport {port} snat to" in router.run(*inside, "nft", "list", "table", "ip", "softwire_ce_napt").stdout
    assert "sport=1000" in router.run(*inside, "conntrack", "-L", "-p", "udp").stdout
    assert topology(router.snapshot()) == topology(before)
    assert router.sh("cat /run/softwire/ce/journal") == journal


def test_a_reload_that_fails_says_so(router):
    files = role_variables.ce_generations()["jool_siit"]
    router.softwire(router.install(files), "up")
    before = router.snapshot()
    generation = router.install(dict(files, **{"napt/napt.nft": "table ip broken {"}))
    done = router.softwire(generation, "reload", check=False)
    assert done.returncode == 1 and "napt.nft" in done.stderr
    unchanged(router, before)


def test_accept_ra_of_user_space_stays(router):
    router.sh("echo 0 > /proc/sys/net/ipv6/conf/isp/accept_ra")
    generation = install_ce(router, "mapt_napt_namespace", wan_gateway="")
    router.softwire(generation, "up")
    assert router.sh("cat /proc/sys/net/ipv6/conf/isp/accept_ra") == "0\n"


def test_an_interface_that_does_not_appear(router, monkeypatch, tmp_path):
    (tmp_path / "instance.json").write_text(json.dumps({"instance": "x", "interfaces": ["no-such"], "kernel_modules": [], "namespaces": []}))
    monkeypatch.setattr(commands, "TIMEOUT", 0)
    with pytest.raises(commands.StepError, match="network interface no-such did not appear within 0 s"):
        runner.Generation(tmp_path).up()


def test_what_a_machine_may_refuse_is_no_fault(router):
    """nf_conntrack_max belongs to the first network namespace of a kernel, and the sandbox is another one."""
    generation = install_ce(router, "mape_main", conntrack_max=5000)
    done = router.softwire(generation, "up")
    assert done.stderr == "softwire: net/netfilter/nf_conntrack_max = 5000 cannot be set on this machine\n"
    assert router.sh("cat /proc/sys/net/netfilter/nf_conntrack_icmp_timeout") == "60\n"
    assert router.softwire(generation, "down").stderr == ""
    assert router.sh("cat /proc/sys/net/netfilter/nf_conntrack_icmp_timeout") == "30\n"


def test_kernel_modules_are_loaded_by_a_step_of_their_own(router):
    before = router.snapshot()
    generation = router.install(role_variables.ce_generations()["jool_mapt"])
    router.softwire(generation, "modules")
    assert router.calls() == [(router.main, ["modprobe", "jool_mapt"])]
    unchanged(router, before)
    router.softwire(generation, "up")
    assert [words[0] for _where, words in router.calls()].count("modprobe") == 1


@pytest.mark.parametrize("case, translator", [
    ("jool_mapt", "jool_mapt"), ("one_interface", "jool_siit"), ("two_domains", "jool_siit"), ("explicit_psids", "jool_siit"),
])
def test_a_border_relay_comes_up_and_goes_without_a_trace(case, translator, router):
    before = router.snapshot()
    generation = router.install(role_variables.br_generations(**role_variables.BR_CASES[case])[translator])
    assert router.softwire(generation, "up").stderr == ""
    assert "pref 7599" in router.run("tc", "filter", "show", "dev", "isp", "ingress").stdout
    pinned = "/run/softwire/br/bpf/mapt"
    assert router.sh(f"ls {pinned}/programs").split() == ["mapt_in", "mapt_out"]
    rules = json.loads(router.run("bpftool", "-j", "map", "dump", "pinned", f"{pinned}/maps/rules").stdout)
    assert len(rules) == sum(len(domain["rules"]) for domain in role_variables.br(**role_variables.BR_CASES[case])["domains"])
    if translator == "jool_siit":
        assert "pref 7599" in router.run("tc", "filter", "show", "dev", "br-in", "ingress").stdout
        assert "fe80::99" in router.run("ip", "-6", "neigh", "show", "dev", "br-out", "nud", "permanent").stdout
    assert router.softwire(generation, "down").stderr == ""
    unchanged(router, before)
    assert router.sh("ls -A /run/softwire/br/bpf") == ""


def test_the_clsact_of_somebody_else_stays(router):
    router.sh("tc qdisc add dev isp clsact")
    before = router.snapshot()
    generation = router.install(role_variables.br_generations()["jool_siit"])
    assert router.softwire(generation, "up").stderr == ""
    assert "pref 7599" in router.run("tc", "filter", "show", "dev", "isp", "ingress").stdout
    assert router.softwire(generation, "down").stderr == ""
    unchanged(router, before)


@pytest.mark.parametrize("fault, code", [("fail", 1), ("kill", -9)])
def test_a_border_relay_that_is_interrupted_leaves_nothing(fault, code, router):
    before = router.snapshot()
    generation = router.install(role_variables.br_generations()["jool_siit"])
    for at in places(router, generation, 3):
        router.softwire(generation, "down")
        assert router.softwire(generation, "up", check=False, fault=fault, at=at).returncode == code
        if fault == "kill":
            router.softwire(generation, "down")
        unchanged(router, before)


NETWORKD = {**role_variables.MAPE_CASES["shared"], "napt_namespace": "", "network_backend": "networkd"}


def test_networkd_gets_our_files_and_loses_them(router):
    before = router.snapshot()
    files, = role_variables.ce_generations(**NETWORKD).values()
    generation = router.install(files)
    assert router.softwire(generation, "up").stderr == ""
    placed = router.sh("cd /run/systemd/network; stat -c '%a %n' . * */*").split("\n")
    assert placed[:-1] == ["755 .", "755 10-isp.network.d", "644 40-ce-tun.netdev", "644 40-ce-tun.network",
                           "644 10-isp.network.d/softwire-ce.conf"]
    for placed_as, made_as in (("40-ce-tun.netdev",) * 2, ("40-ce-tun.network",) * 2, ("10-isp.network.d/softwire-ce.conf", "wan.conf")):
        assert router.sh(f"cat /run/systemd/network/{placed_as}") == files[f"main/networkd/{made_as}"]
    assert "2001:db8:12:3400:0:c000:212:34/128" in router.sh("ip addr show dev isp")
    assert router.sh("cat /proc/sys/net/ipv4/conf/ce-tun/rp_filter") == "2\n"
    router.softwire(generation, "down")
    assert router.sh("ls /run/systemd/network") == ""
    unchanged(router, before)


def test_the_rules_are_there_before_networkd_makes_the_tunnel(router):
    files, = role_variables.ce_generations(**NETWORKD).values()
    router.softwire(router.install(files), "up", fault="none")
    steps = router.steps()
    assert max(steps.index(step) for step in steps if step.startswith("nft -f")) < steps.index("networkctl reload")


def test_networkd_that_does_nothing_is_an_error(router):
    before = router.snapshot()
    files, = role_variables.ce_generations(**NETWORKD).values()
    files["softwire/commands.py"] = files["softwire/commands.py"].replace("TIMEOUT = 60", "TIMEOUT = 1")
    generation = router.install(files)
    router.sh(f"printf '#!/bin/sh\\n' > {router.directory}/fakes/networkctl")
    done = router.softwire(generation, "up", check=False)
    assert (done.returncode, done.stderr) == (1, "softwire: systemd-networkd does not configure isp within 1 s\n")
    unchanged(router, before)
