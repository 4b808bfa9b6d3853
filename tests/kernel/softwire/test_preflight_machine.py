# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the preflight reads of a real machine."""

from __future__ import annotations

import os

from ansible_collections.softwire.map.plugins.module_utils.softwire import preflight


def test_a_real_machine_answers():
    machine = preflight.Machine()
    assert machine.kernel == os.uname().release and "lo" in machine.links and machine.release["ID"]
    assert machine.has_command("ip") and not machine.has_command("no-such-command")
    assert not machine.has_module("no_such_module") and not machine.has_namespace("no-such-namespace")
    assert machine.secure_boot() in (True, False)
