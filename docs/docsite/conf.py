# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx's configuration for the site that `make docs` builds."""

from __future__ import annotations

project = "softwire.map"
copyright = "2026 softwire.map contributors"
html_title = project
extensions = ["sphinx_antsibull_ext"]
html_theme = "sphinx_ansible_theme"
# The theme's menu of Ansible's own sites has no place here.
html_theme_options = {"topbar_links": {}}
html_show_sphinx = False
pygments_style = "ansible"
highlight_language = "text"
nitpicky = True
# Pages of Ansible's own documentation that plugin pages refer to; nothing is fetched from there.
nitpick_ignore = [("std:ref", label) for label in ("action_plugins", "ansible_configuration_settings", "common_return_values")]
