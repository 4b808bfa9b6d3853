# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands, as the runner runs them, and what it says when one fails."""

# Needs no AnsibleModule and its run_command. pylint: disable=ansible-bad-function
from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time

TIMEOUT = 60  # seconds that a boot waits for a network interface, and for systemd-networkd


class StepError(Exception):
    """A step of bringing an instance up failed; the text is for a person."""


def finished(argv, cwd=None, text="", stderr=subprocess.PIPE):
    """Runs a command, in English, on a text; returns the subprocess.CompletedProcess. Raises OSError where there is no such command."""
    return subprocess.run(
        argv, input=text, stdout=subprocess.PIPE, stderr=stderr, universal_newlines=True, errors="replace", cwd=cwd,
        env=dict(os.environ, LC_ALL="C"), check=False,
    )


def run(argv, cwd=None, text=""):
    """Runs a command and returns its standard output; raises StepError with what it said."""
    done = finished(argv, cwd, text)
    if done.returncode:
        message = (done.stderr or done.stdout).strip()
        raise StepError("%s: exit code %d: %s" % (" ".join(map(str, argv)), done.returncode, message))
    return done.stdout


def query(argv, as_json=True):
    """Returns what a command prints, as JSON or as text; {} or "" where it fails or prints nothing."""
    done = finished(argv)
    printed = "" if done.returncode else done.stdout.strip()
    return json.loads(printed or "{}") if as_json else printed


def succeeds(argv):
    """Runs a command and tells whether its exit code is 0."""
    return finished(argv).returncode == 0


def systemctl(*words):
    """Tells whether systemctl does what the words say; what it has to say about a failure goes to our own standard error."""
    return finished(["systemctl"] + list(words), stderr=None).returncode == 0


def in_namespace(namespace, argv):
    """The command that runs another one in a network namespace, "main" or one of ours."""
    # Not "ip netns exec" or "ip -n": they make a mount namespace each, which the unit forbids.
    return argv if namespace == "main" else ["nsenter", "--net=/run/netns/" + namespace] + argv


def as_batch(lines):
    """Lists of words as the text that a batch mode reads."""
    return "".join(" ".join(map(shlex.quote, line)) + "\n" for line in lines)


def wait_until(condition, fault):
    """Waits for a condition, and raises StepError with the fault where it does not come true."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise StepError("%s within %d s" % (fault, TIMEOUT))
        time.sleep(0.2)


def go_on_as(generation, module, command):
    """Goes on as the program of another generation, which knows best what that needs; returns where it has no such module of ours."""
    if (generation / "softwire" / (module + ".py")).exists():
        os.chdir(str(generation))
        os.execv(sys.executable, [sys.executable, "-B", "-m", "softwire", command])


def tell(text):
    """Tells whoever reads the unit's journal what is no fault."""
    sys.stdout.write("%s\n" % text)


def report(fault):
    """Tells a fault to whoever reads the unit's journal; a deployment finds it there by its first word."""
    sys.stderr.write("softwire: %s\n" % fault)
