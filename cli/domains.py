# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The domain that a command line names: from a file, an option or an ISP's name."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from typing import Any

from .mapping import dhcpv6
from .mapping.arithmetic import Domain
from .mapping.domain import parse_domain
from .mapping.errors import MapError

FILE = "--domain"
KEY = "map_domain"


def prepared(asked: Namespace) -> list[Domain]:
    """The domains to look in: one, or of an ISP one for each of its BRs. Raises MapError."""
    if getattr(asked, "isp", None) is not None:
        from .mapping import isp

        return [Domain(domain) for domain in isp.isp_domains(asked.isp, "--isp")]
    value, path = written(asked)
    return [Domain(parse_domain(value, path, asked.warn))]


def written(asked: Namespace) -> tuple[Any, str]:
    """A domain as it is written, not checked, and the path of it in errors. Raises MapError."""
    if asked.option is not None:
        return dhcpv6.domain_of(asked.option, None, asked.warn), ""
    value = _parsed(text_of(asked.domain, FILE), asked.domain)
    if isinstance(value, dict) and KEY in value:
        return value[KEY], KEY
    return value, ""


def text_of(name: str, path: str) -> str:
    """What stands in a file, or for "-" in standard input. Raises MapError."""
    try:
        with open(0 if name == "-" else name, encoding="utf-8-sig", closefd=name != "-") as file:
            return file.read()
    except OSError as exc:
        raise MapError(path, name, f"cannot be read: {exc.strerror}") from None
    except ValueError as exc:
        # Bytes that are no UTF-8, and names that no file can have.
        raise MapError(path, name, f"cannot be read as UTF-8 text: {exc}") from None


def _parsed(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        no_json = f"is no JSON ({exc})"
    if name.endswith(".json"):
        raise MapError(FILE, name, no_json)
    try:
        import yaml
    except ImportError:
        reason = f"{no_json}, and to read YAML {sys.executable} lacks PyYAML: install it (pip install pyyaml), or write the domain in JSON"
        raise MapError(FILE, name, reason) from None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, AttributeError, KeyError, RecursionError) as exc:
        # Not all of what does not fit its tag is an error of PyYAML's own.
        raise MapError(FILE, name, f"{no_json}, and no YAML either: {exc}") from None
