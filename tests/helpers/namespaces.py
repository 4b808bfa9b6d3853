# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sockets in other network namespaces than the one of the tests, and mounts that only a test sees."""

from __future__ import annotations

import contextlib
import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET, CLONE_NEWNS = 0x40000000, 0x00020000  # <linux/sched.h>
MS_REC, MS_PRIVATE = 0x4000, 0x40000  # <linux/mount.h>


@contextlib.contextmanager
def network_namespace(path):
    """Leads this thread into a network namespace, to which the sockets that it makes there belong for good."""
    with open("/proc/thread-self/ns/net") as home, open(path) as there:
        assert LIBC.setns(there.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert LIBC.setns(home.fileno(), CLONE_NEWNET) == 0


@contextlib.contextmanager
def mount_namespace():
    """Leads this thread, and the commands that it runs, into a mount namespace of its own."""
    where = os.getcwd()
    with open("/proc/thread-self/ns/mnt") as home:
        assert LIBC.unshare(CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
        try:
            assert LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None) == 0, os.strerror(ctypes.get_errno())
            yield
        finally:
            assert LIBC.setns(home.fileno(), CLONE_NEWNS) == 0
            os.chdir(where)
