# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Links that systemd-networkd makes: our files for it, and what it says of interfaces."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from . import paths
from .commands import query, run, wait_until


def make_device(files, wanted, journal):
    """Lets systemd-networkd make the tunnel, and leave it down: it has no file yet that configures it.

    files: the directory of our files for it; wanted: {"wan": interface, "address": the MAP address on it, "device": the tunnel}.
    """
    # At a boot systemd-networkd needs a moment to choose a file.
    wait_until(lambda: file_of(wanted["wan"]), "systemd-networkd does not configure %s" % wanted["wan"])
    journal.add(run=["ip", "link", "del", wanted["device"]])
    hand_over({path: paths.NETWORKD / path.name for path in sorted(files.glob("*.netdev"))}, journal)
    wait_until(Path("/sys/class/net", wanted["device"]).exists, "systemd-networkd did not make %s" % wanted["device"])


def configure(files, name, wanted, journal):
    """Lets systemd-networkd configure the tunnel and the WAN, and waits until it has; wan.conf becomes a drop-in of the WAN's file."""
    drop_ins = paths.NETWORKD / (Path(file_of(wanted["wan"])).name + ".d")
    journal.add(run=["ip", "link", "set", "dev", wanted["device"], "down"])  # nothing passes once its programs are gone
    journal.add(run=["rmdir", "--ignore-fail-on-non-empty", str(drop_ins)])
    targets = {path: drop_ins / ("softwire-%s.conf" % name) for path in files.glob("*.conf")}
    targets.update({path: paths.NETWORKD / path.name for path in files.glob("*.network")})
    hand_over(targets, journal)
    wait_until(
        lambda: status(wanted["device"], "State").endswith("(configured)") and has_address(wanted["wan"], wanted["address"]),
        "systemd-networkd did not set up %s and %s on %s" % (wanted["device"], wanted["address"], wanted["wan"]))


def hand_over(targets, journal):
    """Hands files to systemd-networkd. targets: {path: where it is to lie}."""
    journal.add(run=["networkctl", "reload"])
    for path, target in targets.items():
        journal.add(run=["rm", "-f", str(target)])
        for directory in (paths.NETWORKD, target.parent):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(0o755)  # systemd-networkd is a user of its own
        target.write_text(path.read_text())
        target.chmod(0o644)
    run(["networkctl", "reload"])


def status(interface, field):
    """One line of what networkctl says of an interface, without its label; "" where it says nothing."""
    printed = query(["networkctl", "--no-pager", "status", interface], as_json=False) if shutil.which("networkctl") else ""
    found = re.search(r"^\s*%s: (.+)$" % field, printed, re.MULTILINE)
    return found.group(1).strip() if found else ""


def file_of(interface):
    """The path of the .network file by which systemd-networkd configures an interface, or None."""
    path = status(interface, "Network File")
    return path if path.startswith("/") else None


def has_address(interface, address):
    shown = json.loads(run(["ip", "-j", "addr", "show", "dev", interface]))
    return any(entry["local"] == address for link in shown for entry in link.get("addr_info", []) if "local" in entry)
