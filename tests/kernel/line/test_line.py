# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watcher of a line beside each DHCPv6 client, with real servers and routers."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import doc_samples
import pytest
from dhcpv6_lab import run, wait
from line_lab import Line

from ansible_collections.softwire.map.plugins.filter.dhcpv6_options import dhcpv6_options

(KEA,) = doc_samples.texts("dhcpv6", "json")
(DNSMASQ,) = doc_samples.texts("dhcpv6", "text")
RULE = {"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16}
MAPE, CHANGED, MAPT = (dhcpv6_options(domain)[0]["data"] for domain in (
    {"transport": "map-e", "br_address": "2001:db8:ffff::1", "rules": [RULE]},
    {"transport": "map-e", "br_address": "2001:db8:ffff::2", "rules": [RULE]},
    {"transport": "map-t", "dmr": "64:ff9b::/96", "rules": [RULE]}))
FIRST, SECOND = "2001:db8::/56", "2001:db8:100::/56"  # what Kea delegates first, of either pool
SERVER = "00030001020000000001"
TIMERS = {"preferred-lifetime": 14, "valid-lifetime": 20, "renew-timer": 4, "rebind-timer": 8}
RADVD = """interface eth0 {
    AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4; AdvDefaultLifetime 1800;
    prefix PREFIX { AdvValidLifetime 14400; AdvPreferredLifetime 14400; };
};
"""
# What tells of a delegated prefix beside the Reply: kernel, or the hook. A LAN address proves its own /64.
EVIDENCE = {
    "networkd": {("route", "/56"), ("lan", ":1::/64")},
    "dhcpcd": {("route", "/56"), ("lan", ":1::/64")},
    "dhclient": {("file", "/56")},
}


def kea(prefix, containers, reservation=None):
    """Kea's configuration: what it delegates from, {code: container}, and what only the client with a DUID gets."""
    found = json.loads(KEA)
    found["Dhcp6"].update(TIMERS, **{
        "server-id": {"type": "LL", "identifier": SERVER[8:], "htype": 1, "persist": False},
        "option-def": [{"name": "s46-priority", "code": 111, "type": "uint16", "array": True}]})
    subnet, = found["Dhcp6"]["subnet6"]
    subnet["subnet"], subnet["pools"] = "2001:db8:f006::/64", [{"pool": "2001:db8:f006::1000-2001:db8:f006::1fff"}]
    subnet["pd-pools"] = [{"prefix": prefix.replace("/56", ""), "prefix-len": 40, "delegated-len": 56}]
    subnet["option-data"] = [{"name": "s46-priority", "data": "95, 94"}, *options(containers)]
    if reservation:
        duid, own = reservation
        subnet["reservations"] = [{"duid": duid, "option-data": options(own)}]
    return json.dumps(found)


def options(containers):
    return [{"code": code, "csv-format": False, "data": data} for code, data in containers.items()]


@pytest.fixture
def line(tmp_path):
    made = Line(tmp_path)
    try:
        yield made
    finally:
        made.close()


def prefixes(found, *sources):
    return {each["prefix"] for each in found["prefixes"] if each["from"] in sources}


def of(found, source, prefix):
    """What is said of a prefix."""
    return next((each for each in found["prefixes"] if (each["from"], each["prefix"]) == (source, prefix)), None)


def containers(found, source):
    """The containers that the one server of the tests, or a file, has given."""
    return next((each["containers"] for each in found["answers"] if each["from"] == source), None)


def tells(found, client, prefix):
    return prefix in prefixes(found, "reply") and all(
        any(each["from"] == source and each["prefix"].endswith(end) and each["prefix"].startswith(prefix.split("::")[0]) for each in found["prefixes"])
        for source, end in EVIDENCE[client])


@pytest.mark.parametrize("client", EVIDENCE)
def test_a_delegated_prefix_and_its_rules_are_followed_beside(line, client):
    server = line.serve_kea(kea(FIRST, {94: MAPE}))
    watcher = line.watch()
    found = line.until(lambda found: containers(found, "asked"))
    answer, = found["answers"]
    assert answer["containers"] == {"94": MAPE} and answer["priority"] == [95, 94] and answer["server"] == SERVER
    assert answer["address"].startswith("fe80::") and not found["prefixes"] and found["client"] is None
    process = line.connect(client)
    found = line.until(lambda found: tells(found, client, FIRST) and containers(found, "client") == {"94": MAPE})
    known, duid = of(found, "reply", FIRST), found["client"]
    assert not known["deprecated"] and known["valid_until"] - known["announced"] == pytest.approx(20, abs=0.2)
    # The client renews: nothing of ours was in its way.
    wait(lambda: "PD_LEASE_RENEW" in (line.directory / "kea-dhcp6.log").read_text(), (line.directory / "kea-dhcp6.log").read_text)
    # The provider renumbers and changes its rules, which the client learns at its next Renew; some of it is for this client alone.
    line.stop(server)
    server = line.serve_kea(kea(SECOND, {94: CHANGED}, (duid, {95: MAPT})))
    found = line.until(lambda found: tells(found, client, SECOND) and containers(found, "client") == {"94": CHANGED, "95": MAPT})
    assert FIRST not in prefixes(found, "reply") and found["client"] == duid
    # Our own question, which comes after the new prefix, has the client's DUID.
    line.until(lambda found: containers(found, "asked") == {"94": CHANGED, "95": MAPT})
    # The server dies.
    line.stop(server, signal.SIGKILL)
    line.until(lambda found: (of(found, "reply", SECOND) or {}).get("deprecated"))
    line.until(lambda found: not prefixes(found, "reply", "lan", "host", "file"))
    assert process.poll() is None and watcher.poll() is None
    assert line.line()["refused"] == [] and line.watcher_log.read_text() == ""


def test_a_line_of_router_advertisements_that_is_renumbered_without_farewell(line):
    def advertise(prefix):
        path = line.directory / "radvd.conf"
        path.write_text(RADVD.replace("PREFIX", prefix))
        return line.start(line.server, "radvd", "-n", "-C", path, "-m", "stderr", "-p", "/run/radvd.pid")[0]

    first, second = "2001:db8:1::/64", "2001:db8:2::/64"
    router = advertise(first)
    line.watch()
    line.until(lambda found: prefixes(found, "advertised") == {first})
    line.stop(router, signal.SIGKILL)
    time.sleep(1)  # what comes together is together
    advertise(second)
    found = line.until(lambda found: (of(found, "advertised", first) or {}).get("silent"))
    old, new = (of(found, "advertised", prefix) for prefix in (first, second))
    # Nothing else tells that it is dead.
    assert not old["deprecated"] and old["valid_until"] - found["written"] > 7000
    assert not new["silent"] and new["announced"] > old["announced"]
    # The kernel tells of nothing that was before a restart, but for the addresses with their times.
    line.stop(line.watcher)
    (line.directory / "run/softwire-line/ce/line.json").unlink()
    line.watch()
    again = line.until(lambda found: prefixes(found, "advertised") == {first, second})
    assert [each["silent"] for each in again["prefixes"] if each["from"] == "advertised"] == [True, False]


def test_a_server_that_comes_late_is_asked_until_it_answers(line):
    line.watch()
    line.until(lambda found: found["unanswered_since"])
    line.serve_dnsmasq(re.sub("option6:.*", "option6:94," + ":".join(re.findall("..", MAPE)), DNSMASQ))
    found = line.until(lambda found: containers(found, "asked") == {"94": MAPE})
    assert found["answers"][0]["refresh"] == 86400 and found["unanswered_since"] is None
    assert prefixes(found, "advertised") == {"2001:db8:6::/64"}


def test_it_goes_on_as_the_program_of_the_next_generation_and_forgets_nothing(line):
    line.serve_kea(kea(FIRST, {94: MAPE}))
    watcher = line.watch()
    line.connect("networkd")
    line.until(lambda found: containers(found, "client") and found["client"])
    line.switch("0002-bbbb")
    os.kill(line.watcher_pid, signal.SIGHUP)
    wait(lambda: os.readlink(f"/proc/{line.watcher_pid}/cwd").endswith("0002-bbbb"), line.watcher_log.read_text)
    written = line.line()["written"]
    found = line.until(lambda found: found["written"] > written)
    assert watcher.poll() is None and containers(found, "client") == {"94": MAPE} and FIRST in prefixes(found, "reply")


def test_an_interface_that_is_made_anew_is_heard_again(line):
    server = line.serve_kea(kea(FIRST, {94: MAPE}))
    line.watch()
    line.until(lambda found: found["running"] and containers(found, "asked") == {"94": MAPE})
    run("ip", "-n", line.client, "link", "del", "eth0")
    line.until(lambda found: not found["running"])
    line.stop(server)
    line.join()
    line.until(lambda found: found["running"])
    line.serve_kea(kea(FIRST, {94: CHANGED}))
    line.until(lambda found: containers(found, "asked") == {"94": CHANGED})
