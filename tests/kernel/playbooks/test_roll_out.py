# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks on stand-in routers: batches and the limit of failures, and a report of what routers answer."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import role_variables
import doc_samples
import yaml

CE = {
    "map_domain": role_variables.rule_domain(ea_length=16, psid_offset=0),
    "map_ce_wan_interface": "isp", "map_ce_lan_interfaces": ["lan"], "map_ce_lan_addresses": ["192.168.0.1/24"],
    "ansible_connection": "standin", "ansible_python_interpreter": "/usr/bin/python3", "ansible_become": False,
}


def roll_out(fleet, good, bad=(), relays=None, **extra):
    """Runs site.yml with these variables on CEs, in the order of their names: (exit code, [hosts of each batch], output)."""
    hosts = {}
    for number, name in enumerate(sorted({*good, *bad})):
        hosts[name] = {"map_ce_end_user_prefix": f"2001:db8:0:{number + 1:x}00::/56"}
        router = fleet.add(name)
        if name in bad:
            (router / "run/systemd/system").rmdir()
    inventory = {"map_ce": {"hosts": hosts}, "map_br": {"hosts": relays or {}}, "all": {"vars": CE}}
    path = fleet.directory / "inventory.yml"
    path.write_text(yaml.safe_dump(inventory))
    code, said = doc_samples.ansible("playbook", "softwire.map.site", "-i", path, "-e", json.dumps(extra), home=fleet.directory,
                                     ANSIBLE_REMOTE_TMP="/run/ansible", **fleet.environment())
    plays = re.split(r"^PLAY \[Customer edges\].*$", said.partition("PLAY RECAP")[0], flags=re.MULTILINE)[1:]
    batches = [sorted(set(re.findall(r"^(?:changed|fatal): \[(\w+)\]", play, re.MULTILINE))) for play in plays]
    return code, batches, said


# The parts of a stand-in router in place of this machine's.
ON_THE_ROUTER = """
mount --make-rprivate /; mkdir etc; mount -t tmpfs tmpfs etc; cp -a /etc/. etc; mkdir -p etc/softwire etc/systemd/system; mount --bind etc /etc
printf 'ID=debian\\nVERSION_ID="12"\\n' > new; rm /etc/os-release; mv new /etc/os-release
mount --bind TOOLS /usr/local/sbin
mount --bind router/softwire /etc/softwire; mount --bind router/system /etc/systemd/system
mount --bind router/sysctl /proc/sys/net; mount --bind router/run /run
PATH=/usr/local/sbin:$PATH exec "$@"
"""


def test_ansible_on_the_router_itself(tmp_path):
    for path in ("softwire", "system", "run/systemd/system", "run/netns", "sysctl"):
        (tmp_path / "router" / path).mkdir(parents=True)
    variables = {**CE, "ansible_connection": "local", "map_ce_end_user_prefix": "2001:db8:0:100::/56", "map_ce_translator": "jool_siit"}
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


def test_a_report_holds_what_the_routers_answer(fleet):
    roll_out(fleet, "a")
    code, said = doc_samples.ansible("playbook", "softwire.map.report", "-i", fleet.directory / "inventory.yml", "-e", "map_report_live=true",
                                     home=fleet.directory,
                                     ANSIBLE_REMOTE_TMP="/run/ansible", **fleet.environment())
    assert code == 0 and "| 0 % (0 tcp, 0 udp, 0 icmp) |" in (fleet.directory / "report/report.md").read_text(), said
