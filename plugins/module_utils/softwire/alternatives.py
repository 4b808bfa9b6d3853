# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the generations that are offered a router takes: the first that it can run; changes nothing."""

from __future__ import annotations

import json

from . import generations, instances, preflight


def choose(instance, offered, install_packages, metrics_directory):
    """(name, files, packages to install first, why this router cannot run it) of the alternative that is taken, or else of the first.

    instance: its generations.Instance. offered: (name, {path: bytes}) of each alternative, in order of preference. install_packages:
    whether packages of the distribution may be installed. metrics_directory: where metrics are wanted, or None.
    """
    machine = preflight.Machine()
    considered = [consider(machine, name, files, install_packages) for name, files in offered]
    name, files, settings, packages, faults = next((entry for entry in considered if not entry[-1]), considered[0])
    # A journal means that something of this instance is up, be it what a killed run left.
    ours = namespaces_of(instance.files()) if instance.journal.exists() else []
    others = generations.others(instance)
    # What is in the namespaces of other instances is a conflict with those.
    known = ours + [namespace for theirs in others.values() for namespace in namespaces_of(theirs)]
    faults += instances.conflicts(files, others)
    faults += preflight.interface_faults(machine, settings, known) + preflight.namespace_faults(machine, settings, known)
    faults += preflight.networkd_faults(settings)
    if metrics_directory is not None:
        faults += preflight.metrics_faults(settings["role"], metrics_directory)
    return name, files, packages, faults


def consider(machine, name, files, install_packages):
    """(name, files, settings, packages that the machine lacks, why it cannot run this) of one alternative."""
    settings = json.loads(files["instance.json"])
    packages, faults = preflight.missing(machine, settings)
    old = preflight.kernel_fault(machine, settings["minimum_kernel"])
    unsupported = preflight.distribution_fault(machine) if packages else None
    faults = [fault for fault in (unsupported, old) if fault] + faults
    if packages and not install_packages:
        faults.append("missing packages: %s; install them, or let the role do it (install_packages)" % ", ".join(packages))
    return name, files, settings, packages, faults


def namespaces_of(files):
    """The network namespaces of a generation's own; none where there is no generation."""
    return json.loads(files.get("instance.json", b"{}")).get("namespaces", [])
