# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guides do what they say: samples give the stated results, inventories deploy, commands and variables exist."""

from __future__ import annotations

import samples
import yaml


def test_the_arithmetic_gives_the_stated_results(tmp_path):
    texts = samples.texts("guide_arithmetic", "yaml")
    (domain,) = (text for text in texts if text.startswith("map_domain:"))
    stated = [sample for text in texts if text != domain for sample in samples.stated(text, "guide_arithmetic")]
    named = {f"sample_{index}": sample for index, sample in enumerate(stated)}
    given = samples.outcomes(named, tmp_path, **yaml.safe_load(domain))
    for name, sample in named.items():
        if sample.fails:
            assert sample.expected in given[name], sample.task["name"]
        else:
            assert given[name] == sample.expected, sample.task["name"]
