# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one error of the collection, and the paths it names."""

from __future__ import annotations

# Defined with the arithmetic, which runs on routers, where plugin_utils does not exist.
from ansible_collections.softwire.map.plugins.module_utils.arithmetic import MapError

__all__ = ["MapError", "join_path"]


def join_path(path: str, key: str) -> str:
    """The path of a key below a path: ("rules[0]", "psid") -> "rules[0].psid"; ("", "dmr") -> "dmr"."""
    return f"{path}.{key}" if path else key
