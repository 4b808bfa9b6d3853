# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""softwire-map, the calculator for the command line: Python 3.8 or later and its standard library.

As softwire_map it is a package of its own, with plugins/module_utils/mapping as its subpackage `mapping` (pyproject.toml), so whatever it
computes, it computes with the code of the filters.
"""
