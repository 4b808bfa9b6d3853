# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The package softwire_map as pyproject.toml puts it together, of the checkout's own files."""

from __future__ import annotations

import os

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), *3 * [os.pardir]))
__path__ = [os.path.join(ROOT, "cli"), os.path.join(ROOT, "plugins", "module_utils")]
