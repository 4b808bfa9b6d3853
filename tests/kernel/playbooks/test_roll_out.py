# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks on stand-in routers: batches and the limit of failures, and a report of what routers answer."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import role_variables
import doc_samples
import yaml

CE = {
    "map_domain": role_variables.rule_domain(ea_length=16, psid_offset=0),
    "map_ce_wan_interface": "isp", "map_ce_lan_interfaces": ["lan"], "map_ce_lan_addresses": ["192.168.0.1/24"],
    "ansible_connection": "standin", "ansible_python_interpreter": "/usr/bin/python3", "ansible_become": False,
}


def play(fleet, name, *arguments):
    """(exit code, output) of a playbook of the collection on the inventory."""
    return doc_samples.ansible("playbook", f"softwire.map.{name}", "-i", fleet.directory / "inventory.yml", *arguments, home=fleet.directory,
                               ANSIBLE_REMOTE_TMP="/run/ansible", **fleet.environment())


def roll_out(fleet, good, bad=(), lost=(), off=(), relays=None, **extra):
    """Runs site.yml with these variables on CEs, in the order of their names: (exit code, [hosts of each batch], output).

    What a router is asked does not work on bad ones, whose answer is lost on lost ones; off ones do not answer at all.
    """
    hosts = {}
    for name in sorted({*good, *bad, *lost, *off}):
        hosts[name] = {"map_ce_end_user_prefix": f"2001:db8:0:{int(name.removeprefix('ce'), 36):x}00::/56"}
        router = fleet.directory / name
        if name not in off and not router.exists():
            fleet.add(name)
        if name in bad:
            (router / "run/systemd/system").rmdir()
        if name in lost:
            (router / "is_cut_off").touch()
    inventory = {"map_ce": {"hosts": hosts}, "map_br": {"hosts": relays or {}}, "all": {"vars": CE}}
    path = fleet.directory / "inventory.yml"
    path.write_text(yaml.safe_dump(inventory))
    code, said = play(fleet, "site", "-e", json.dumps(extra))
    plays = re.split(r"^PLAY \[Customer edges\].*$", said.partition("PLAY RECAP")[0], flags=re.MULTILINE)[1:]
    batches = [sorted(set(re.findall(r"^(?:changed|fatal): \[(\w+)\]", play, re.MULTILINE))) for play in plays]
    return code, batches, said


# The parts of a stand-in router in place of this machine's.
ON_THE_ROUTER = """
mount --make-rprivate /; mkdir -p etc; mount -t tmpfs tmpfs etc; cp -a /etc/. etc; mkdir -p etc/softwire etc/systemd/system; mount --bind etc /etc
printf 'ID=debian\\nVERSION_ID="12"\\n' > new; rm /etc/os-release; mv new /etc/os-release
mount --bind TOOLS /usr/local/sbin
mount --bind router/softwire /etc/softwire; mount --bind router/system /etc/systemd/system
mount --bind router/sysctl /proc/sys/net; mount --bind router/run /run; mount --bind router/log /var/log
PATH=/usr/local/sbin:$PATH exec "$@"
"""


def test_ansible_on_the_router_itself(tmp_path):
    for path in ("softwire", "system", "run/systemd/system", "run/netns", "log", "sysctl"):
        (tmp_path / "router" / path).mkdir(parents=True)
    variables = {**CE, "ansible_connection": "local", "map_ce_end_user_prefix": "2001:db8:0:100::/56"}
    (tmp_path / "inventory.yml").write_text(yaml.safe_dump({"map_ce": {"hosts": {"router": variables}}}))
    script = ON_THE_ROUTER.replace("TOOLS", str(doc_samples.REPOSITORY / "tests/bench/fleet/tools"))
    for changed in (1, 0):
        done = subprocess.run(
            ["unshare", "-m", "sh", "-ec", script, "sh", sys.executable, "-m", "ansible", "playbook", "softwire.map.site", "-i", "inventory.yml"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(doc_samples.REPOSITORY / "collections"), "ANSIBLE_HOME": str(tmp_path),
                 "ANSIBLE_NOCOLOR": "1", "ANSIBLE_REMOTE_TMP": str(tmp_path / "tmp")})
        said = done.stdout + done.stderr
        assert done.returncode == 0 and re.search(rf"^router .* changed={changed} .* failed=0", said, re.MULTILINE), said
        assert ("map_ce_health_target: not set" in said) == bool(changed)
    instance = tmp_path / "router/softwire/ce"
    assert (instance / "confirmed").read_text().split() == [(instance / "current").readlink().name]
    assert not (instance / "unconfirmed").exists()
    trail = [json.loads(line) for line in (tmp_path / "router/log/softwire/ce.jsonl").read_text().splitlines()]
    assert [line["event"] for line in trail] == ["deploy", "confirm"]
    assert all(line["by"] == {"controller": socket.gethostname(), "user": getpass.getuser(), **line["by"]} for line in trail)


def test_a_small_network_is_one_batch(fleet):
    code, batches, said = roll_out(fleet, ["a", "b", "c"])
    assert (code, batches) == (0, [["a", "b", "c"]]), said


def test_a_fleet_begins_with_one(fleet):
    names = [f"ce{number:02}" for number in range(20)]
    code, batches, said = roll_out(fleet, names[1:], bad=names[:1])
    assert (code, batches) == (2, [["ce00"]]), said


def test_batches_and_the_limit_of_failures(fleet):
    code, batches, said = roll_out(fleet, "abd", bad="c", map_rollout_ce_batches=[1, 2, "100%"])
    assert (code, batches) == (2, [["a"], ["b", "c"]]), said


def test_failures_below_the_limit_do_not_stop(fleet):
    code, batches, said = roll_out(
        fleet, "abd", bad="c", map_rollout_ce_batches=[1, 2, "100%"], map_rollout_max_fail_percentage=50)
    assert (code, batches) == (2, [["a"], ["b", "c"], ["d"]]), said


def test_a_relay_that_fails_ends_it(fleet):
    code, batches, said = roll_out(fleet, "a", relays={"r1": {}, "r2": {}})  # without their interfaces
    assert (code, batches) == (2, []), said
    assert "fatal: [r1]" in said and "fatal: [r2]" not in said


def table(said):
    """{router: (state, what it does now, reason)} of the one table in an output."""
    (text,) = re.findall(r'"table": \[\n(.*?)\n *\]', said, re.DOTALL)
    rows = [re.split("  +", json.loads(line.strip().rstrip(","))) for line in text.splitlines()]
    assert rows[0] == ["router", "state", "now", "reason"]
    return {row[0]: tuple(row[1:]) for row in rows[1:]}


def test_routers_that_are_lost_in_the_middle_end_it(fleet):
    code, batches, said = roll_out(fleet, "abf", lost="cde", off="g", map_rollout_ce_batches=[1, 4, "100%"], map_rollout_max_fail_percentage=50)
    assert (code, batches) == (2, [["a"], ["b", "c", "d", "e"]]), said
    shown = table(said)
    assert [shown[name][0] for name in "abcdefg"] == ["changed", "changed", "lost", "lost", "lost", "untouched", "untouched"]
    now = "a change is not confirmed, so the router rolls it back within 60 s"
    assert shown["c"] == ("lost", now, f"the connection broke after the deployment had begun; {now}: no such stand-in: c")
    assert re.fullmatch(r"generation 0001-\w+ runs", shown["b"][1]) and shown["f"][1] == "as before"
    assert "of the 4 routers of this batch 3 failed, were lost or are not healthy, which is more than 50 %" in said


def test_routers_that_were_off_do_not(fleet):
    code, batches, said = roll_out(fleet, "aef", off="bcd", map_rollout_ce_batches=[1, 4, "100%"])
    assert (code, batches) == (4, [["a"], ["b", "c", "d", "e"], ["f"]]), said
    assert {name: row[0] for name, row in table(said).items()} == dict.fromkeys("aef", "changed") | dict.fromkeys("bcd", "not reached")
    assert '"summary": "3 changed, 3 not reached"' in said


def test_a_roll_out_that_went_well_has_no_table(fleet):
    _code, _batches, said = roll_out(fleet, "ab", map_rollout_ce_batches=1)
    assert said.count('"summary"') == 1 and '"summary": "2 changed"' in said and '"table"' not in said


def test_variables_that_are_refused_are_in_the_table(fleet):
    code, _batches, said = roll_out(fleet, "a", map_ce_wan_mtu=1)
    assert code == 2 and table(said)["a"][:2] == ("failed", "as before") and "map_ce_wan_mtu: 1: must be" in table(said)["a"][2], said


def damaged(fleet, name):
    """Lets a router lose what is applied, as by a restart that failed, once its deployment is confirmed."""
    router = fleet.directory / name
    deadline = time.monotonic() + 60
    while not (router / "softwire/ce/confirmed").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    (router / "run/softwire/ce/applied").unlink()


def test_after_a_pause_routers_are_asked_again(fleet):
    harm = threading.Thread(target=damaged, args=(fleet, "b"))
    harm.start()
    code, batches, said = roll_out(fleet, "abc", map_rollout_ce_batches=[2, 1], map_rollout_pause=5, map_rollout_max_fail_percentage=20,
                                   map_rollout_record="rolled-out.yml")
    harm.join()
    assert (code, batches) == (2, [["a", "b"]]), said
    shown = table(said)
    assert [shown[name][0] for name in "abc"] == ["changed", "unhealthy", "untouched"], said
    assert shown["b"][1:] == ("no generation runs as a whole", "no generation as a whole is applied"), said


def test_without_a_fault_the_pause_is_all(fleet):
    begun = time.monotonic()
    code, batches, said = roll_out(fleet, "ab", map_rollout_ce_batches=1, map_rollout_pause=3)
    assert (code, batches) == (0, [["a"], ["b"]]) and time.monotonic() - begun > 6 and '"table"' not in said, said


def running(fleet, name):
    return (fleet.directory / name / "softwire/ce/current").resolve().name


def test_exactly_those_that_a_roll_out_changed_go_back(fleet):
    new = {"map_ce_max_ports_per_client": 500}
    assert roll_out(fleet, "abcd")[0] == roll_out(fleet, "d", **new)[0] == 0
    before = {name: running(fleet, name) for name in "acd"}
    new["map_rollout_record"] = str(fleet.directory / "rolled-out.yml")
    # It ends at b, and goes on later.
    code, batches, said = roll_out(fleet, "acd", lost="b", map_rollout_ce_batches=[1, 1, 2], **new)
    assert (code, batches) == (2, [["a"], ["b"]]), said
    assert yaml.safe_load(Path(new["map_rollout_record"]).read_text()) == {"map_rolled_out": {"hosts": {"a": {"map_generation": before["a"]}}}}
    code, batches, said = roll_out(fleet, "acde", lost="b", map_rollout_max_fail_percentage=20, **new)
    assert (code, batches) == (2, [["b", "c", "e"]]), said
    recorded = yaml.safe_load(Path(new["map_rollout_record"]).read_text())["map_rolled_out"]["hosts"]
    assert recorded == {name: {"map_generation": before[name]} for name in "ac"}  # e had none before
    for _twice in range(2):
        code, said = play(fleet, "rollback", "-i", new["map_rollout_record"], "--limit", "map_rolled_out")
        assert code == 0 and set(re.findall(r"^(?:changed|ok): \[(\w)\]", said.partition("Customer edges")[2], re.MULTILINE)) == {"a", "c"}, said
        assert {name: running(fleet, name) for name in "acd"} == before


def test_a_record_that_cannot_be_written_ends_it_before_anything_is_touched(fleet):
    for name, said in ("record.txt", "its name must end in .yml"), ("inventory.yml", "is no record of a roll-out"), ("no/record.yml", "No such file"):
        path = fleet.directory / name
        code, batches, output = roll_out(fleet, "a", map_rollout_record=str(path))
        assert code == 2 and f"map_rollout_record: {path}: cannot hold the record: " in output and said in output, output
        assert not (fleet.directory / "a/softwire/ce").exists()


def test_a_report_holds_what_the_routers_answer(fleet):
    roll_out(fleet, "a")
    code, said = play(fleet, "report", "-e", "map_report_live=true")
    assert code == 0 and "| 0 % (0 tcp, 0 udp, 0 icmp) |" in (fleet.directory / "report/report.md").read_text(), said
