# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""python3 -B -m PACKAGE.provider INSTANCE, as the unit calls it, with mapping and softwire beside this package in PACKAGE."""

from __future__ import annotations

import argparse
import os

from ..mapping import checks
from ..mapping.errors import MapError
from ..softwire.commands import report
from ..softwire.paths import Paths
from .client import follow


def main() -> int:
    parser = argparse.ArgumentParser(prog="provider", description="Ask the server of a line's provider how IPv4 crosses its network (HB46PP).")
    parser.add_argument("instance", help="the instance of the customer edge")
    try:
        return follow(Paths(checks.instance(parser.parse_args().instance, "instance")), os.environ)
    except (MapError, OSError) as exc:
        report(exc)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
