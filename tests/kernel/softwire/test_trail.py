# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The audit trail that the program in a generation leaves, with the rights of its units; the module's lines: tests/unit/modules/test_deploy_trail.py."""

from __future__ import annotations

import json
import os
import subprocess

import role_variables
import pytest
from test_keeper import EDGES, kept, until, with_systemctl

TRAIL = "/var/log/softwire/ce.jsonl"


@pytest.fixture
def router(sandbox):
    made = with_systemctl(sandbox)
    # The lock of deployments is a directory of the machine, which sandboxes otherwise share.
    made.sh(f"mount -t tmpfs tmpfs /etc/systemd/system; ln -s {made.directory}/ce {made.directory}/test")
    return made


def install(router, **changes):
    return router.install(role_variables.ce_generations(**{**EDGES["tunnel"], **changes})["ip6_tunnel"], "ce")


def trail(router):
    """The lines but what each of them has, with "generations" for their number."""
    text = router.sh(f"cat {TRAIL} 2>/dev/null || true")
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(line["format"] == 1 and line["time"].endswith("Z") and line["uptime"] >= 0 for line in lines)
    return [{key: value for key, value in line.items() if key not in ("format", "time", "uptime")} for line in lines]


def events(router):
    return [(line["event"], line["result"]) for line in trail(router)]


def name_of(generation):
    return os.path.basename(os.readlink(generation))


def test_what_is_done_by_hand_or_at_a_boot(router):
    generation = install(router)
    router.softwire(generation, "modules")
    router.softwire(generation, "down")  # as systemd does where it never came up
    assert trail(router) == []
    router.softwire(generation, "up")
    assert trail(router) == [{"event": "start", "generation": name_of(generation), "result": "good"}]
    assert router.sh(f"stat -c '%a %U' {TRAIL} /var/log/softwire").split("\n")[:2] == ["640 root", "755 root"]
    router.softwire(generation, "reload")
    router.softwire(generation, "down")
    router.softwire(generation, "up", check=False, fault="fail", at=3)
    assert events(router) == [("start", "good"), ("reload", "good"), ("stop", "good"), ("start", "failed")]


def test_what_somebody_asks_for_who_tells_it_himself(router):
    generation = install(router)
    command = ["nsenter", "-t", router.process, "-n", "-m", "-p", "flock", "/etc/systemd/system", "sh", "-c", "echo ready; cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"ready\n"
        router.softwire(generation, "up")
        router.softwire(generation, "down")
        holder.communicate()
    assert trail(router) == []
    router.softwire(generation, "up")
    assert events(router) == [("start", "good")]


@pytest.mark.parametrize("broken", ["mount -t tmpfs -o ro tmpfs /var/log", "touch /var/log/softwire",
                                    "mount -t tmpfs -o size=4k tmpfs /var/log; mkdir /var/log/softwire; head -c 9999 /dev/zero > /var/log/x || true"])
def test_a_softwire_comes_up_whatever_becomes_of_its_trail(broken, router):
    generation = install(router)
    router.sh(broken)
    done = router.softwire(generation, "up")
    assert done.stderr.startswith(f"{TRAIL}: the audit trail lacks this start: ") and done.stderr.count("\n") == 1
    assert router.softwire(generation, "down").returncode == 0


@pytest.mark.parametrize("command, reason", [("boot", "reboot"), ("watch", "unconfirmed")])
def test_a_deployment_that_nobody_confirmed(command, reason, router):
    first = name_of(install(router))
    generation = install(router, max_ports_per_client=9)
    second = name_of(generation)
    # boot asks whether the service is there, watch lets systemd reload.
    router.sh(f"printf '#!/bin/sh\\n[ {command} = watch ]\\n' > {router.directory}/fakes/systemctl")
    router.sh(f"mkdir -p /run/softwire/ce; printf %s {router.directory}/ce/generations/{first} > /run/softwire/ce/applied")
    (router.directory / "ce" / "unconfirmed").write_text(
        json.dumps({"format": 1, "generation": second, "previous": first, "active": True, "deadline": 1.5}))
    router.run("env", "-C", generation, "python3", "-B", "-m", "softwire", command)
    assert name_of(generation) == first
    assert trail(router) == [{"event": "rollback", "from": second, "to": first, "reason": reason, "detail": "", "result": "good"}]


def test_what_the_keeper_repairs(router):
    generation = install(router)
    router.softwire(generation, "up")
    with kept(router, generation):
        until((router.directory / "systemctl").exists)
        router.sh("nft flush ruleset")
        until(lambda: len(trail(router)) > 1)
    assert events(router)[:2] == [("start", "good"), ("repair", "good")]  # and no line of the reload that it asked for
    repair = trail(router)[1]
    assert (repair["applied"], repair["in_a_row"], repair["times"]) == ("reload", 1, 1)
    # A look in the middle of the flush finds tables that are half gone.
    assert repair["drift"][0].startswith("nftables table inet softwire_ce_guard (namespace main): "), repair


def test_what_the_keeper_cannot_repair(router):
    generation = install(router)
    router.softwire(generation, "up")
    (router.directory / "refuse").touch()
    with kept(router, generation):
        until((router.directory / "systemctl").exists)
        router.sh("nft flush ruleset")
        until(lambda: trail(router)[-1].get("times") == 2)
    failed = [(line["event"], line["result"], line["drift"], line["times"]) for line in trail(router)[1:]]
    assert failed[-1] == ("repair", "failed", failed[-2][2], 2) and failed[-2][3] == 1, failed
