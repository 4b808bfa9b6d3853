# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a router runs what a generation says. A copy of this file lies in every generation, beside softwire.py."""

# Needs no AnsibleModule and its run_command. pylint: disable=ansible-bad-function
from __future__ import annotations

import json
import subprocess

from . import files as softwire_changes
from .journal import in_namespace


def faults(directory):
    """What of a generation's directory the router does not have; texts for a person."""
    settings = json.loads((directory / "instance.json").read_text())
    found = []
    for namespace in ["main"] + settings["namespaces"]:
        found += ["%s (namespace %s): missing" % (what, namespace) for what in missing(directory / namespace, namespace, settings)]
    return found


def missing(directory, namespace, settings):
    """The tables, links, addresses and the translator of one namespace that are not there."""
    tables = {(entry["table"]["family"], entry["table"]["name"])
              for entry in shown(namespace, ["nft", "-j", "list", "tables"]).get("nftables", []) if "table" in entry}
    for path in sorted(directory.glob("*.nft")):
        for family, name in softwire_changes.tables(path.read_bytes()):
            if (family, name) not in tables:
                yield "nftables table %s %s" % (family, name)
    links = {link["ifname"]: link for link in shown(namespace, ["ip", "-j", "addr"])}
    for line in [line for name in ("ip", "ip-late") for line in softwire_changes.lines_of(directory / name)]:
        if line[:2] == ["link", "add"] and line[2] not in links:
            yield "link %s" % line[2]
        if line[:2] == ["addr", "add"]:
            address, link = line[2].split("/")[0], links.get(line[line.index("dev") + 1], {})
            if address not in [entry.get("local") for entry in link.get("addr_info", [])]:
                yield "address %s" % line[2]
    wanted = settings["networkd"] if namespace == "main" else None
    if wanted and wanted["device"] not in links:
        yield "link %s" % wanted["device"]
    if (directory / "jool.json").exists():
        name = json.loads((directory / "jool.json").read_text())["instance"]
        if not succeeds(in_namespace(namespace, [settings["jool"], "-i", name, "global", "display"])):
            yield "translator instance %s" % name


def shown(namespace, argv):
    """What a tool prints as JSON; an empty dict where it fails."""
    done = subprocess.run(in_namespace(namespace, argv), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return json.loads(done.stdout) if not done.returncode and done.stdout.strip() else {}


def succeeds(argv):
    return subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0
