# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks a provider's server how IPv4 crosses its network (HB46PP). Needs the packages mapping and softwire beside it. Standard library, Python 3.8."""
