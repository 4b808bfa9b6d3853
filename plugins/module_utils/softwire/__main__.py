# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of the runner, as the units call them in the directory of a generation: python3 -B -m softwire COMMAND."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from . import audit, drift, info, keeper, line, metrics, rollback, runner
from .commands import StepError, report
from .paths import Paths, write

GENERATION = Path(os.path.realpath(__file__)).parents[1]
EVENTS = {"up": "start", "down": "stop", "reload": "reload"}  # of the audit trail


def main():
    parser = argparse.ArgumentParser(prog="softwire", description="Run the generation that this copy of the program lies in.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("modules", help="load the kernel modules")
    commands.add_parser("up", help="bring the instance up")
    commands.add_parser("down", help="take down what is up of the instance")
    commands.add_parser("reload", help="go from what is up to this generation; restart where that does not suffice")
    commands.add_parser("boot", help="before the unit starts: roll back a deployment that a reboot interrupted")
    commands.add_parser("watch", help="wait for the confirmation of a deployment, and roll it back where none comes")
    commands.add_parser("ready", help="tell by the exit code whether the interfaces are there")
    commands.add_parser("keep", help="put right what somebody changes, and start the unit once late interfaces are there")
    commands.add_parser("line", help="write down what the line tells: prefixes, and the rules of its DHCPv6 servers")
    commands.add_parser("metrics", help="write the metrics of the instance").add_argument("file", type=Path)
    arguments = parser.parse_args()
    try:
        return run(arguments)
    except (StepError, ValueError, OSError) as exc:
        report(exc)
        return 1


def run(arguments):
    if arguments.command == "metrics":
        return write(arguments.file, metrics.text(info.collect(GENERATION)))
    if arguments.command == "ready":
        absent = drift.absent_interfaces(runner.Generation(GENERATION))
        for interface in absent:
            report("waits for the network interface %s" % interface)
        return int(bool(absent))
    directory = GENERATION.parents[1]
    instance = Paths(directory.name, directory.parent)
    if arguments.command in ("keep", "line"):
        return {"keep": keeper.keep, "line": line.watch}[arguments.command](instance, GENERATION)
    if arguments.command in ("boot", "watch"):
        return {"boot": rollback.boot, "watch": rollback.watch}[arguments.command](rollback.Transaction(instance))
    return act(arguments.command, instance)


def act(command, instance):
    """Runs a command of the runner; returns its exit code. It leaves a line in the audit trail, unless who asked for it leaves one."""
    # systemd also stops what never came up.
    event = None if command == "down" and not instance.journal.exists() else EVENTS.get(command)
    # Whoever asked holds its lock from before to after; a keeper that only looks does not.
    begins = event and not rollback.is_at_work()
    code = runner.act(command, GENERATION)
    if event and (begins or not rollback.is_at_work()):
        audit.Trail(instance).add(event, generation=GENERATION.name, result="failed" if code else "good")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
