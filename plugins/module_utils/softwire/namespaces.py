# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Network namespaces by name: "main", in which this program has begun, or one of those in /run/netns."""

from __future__ import annotations

import contextlib
import ctypes
import os

CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def inside(name):
    """Lets this thread live in a network namespace for a while. Raises OSError where there is none of that name."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        if name != "main":
            other = os.open("/run/netns/" + name, os.O_RDONLY)
            try:
                enter(other)
            finally:
                os.close(other)
        yield
    finally:
        enter(home)
        os.close(home)


def enter(handle):
    """os.setns() is of Python 3.12. Raises OSError."""
    if ctypes.CDLL(None, use_errno=True).setns(handle, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, "setns: %s" % os.strerror(number))
