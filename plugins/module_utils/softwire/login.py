# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""By which login a play works on this router."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

NOBODY = 0xFFFFFFFF  # the loginuid of what no login has started


def connection():
    """The words of SSH_CONNECTION: the other end's address and port, this router's address and port; [] without one.

    sudo hides it, so the environment of the parent processes is read as well.
    """
    process = os.getpid()
    while process > 1:
        try:
            environment = Path("/proc/%d/environ" % process).read_bytes()
            status = Path("/proc/%d/status" % process).read_text()
        except OSError:
            return []
        for entry in environment.split(b"\0"):
            if entry.startswith(b"SSH_CONNECTION="):
                return entry.split(b"=", 1)[1].decode(errors="replace").split()
        process = int(status.split("PPid:")[1].split()[0])
    return []


def user():
    """The name of the user who came, before it became root."""
    if os.environ.get("SUDO_USER"):
        return os.environ["SUDO_USER"]
    # "su" and its like leave the loginuid.
    number = login_number()
    try:
        return pwd.getpwuid(os.getuid() if number == NOBODY else number).pw_name
    except KeyError:
        return str(number)


def login_number():
    """The loginuid of this process; NOBODY where a kernel without audit has none."""
    try:
        return int(Path("/proc/self/loginuid").read_text())
    except (OSError, ValueError):
        return NOBODY
