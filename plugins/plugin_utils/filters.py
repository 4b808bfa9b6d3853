# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every filter has around its one call, and how the filters and the action plugin warn."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display

from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError


def map_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a filter of the same name: its MapError becomes an AnsibleFilterError that names the filter."""

    @wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except MapError as exc:
            # Not "from exc": Ansible would append the sentence a second time.
            raise AnsibleFilterError(f"softwire.map.{function.__name__}: {exc}") from None

    return called


def warn(text: str) -> None:
    """Shows what is legal but odd; Ansible shows the same text once."""
    Display().warning(f"softwire.map: {text}")
