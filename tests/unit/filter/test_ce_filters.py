# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters ce, ces, owner and port_ranges: what Ansible hands them, and the errors it gets back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.softwire.map.plugins.filter import ce, ces, owner, port_ranges

REPOSITORY = Path(__file__).parents[3]
DOMAIN = {
    "transport": "map-e",
    "br_address": "2001:db8:ffff::1",
    "rules": [{"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16}],
}

PLAYBOOK = r"""
- hosts: localhost
  gather_facts: false
  vars:
    bits: 16
    map_domain:
      transport: map-e
      br_address: ["2001:db8:ffff::1"]
      rules:
        - ipv6_prefix: "{{ '2001:db8::/40' }}"
          ipv4_prefix: 192.0.2.0/24
          ea_length: "{{ bits }}"
          fmr: "{{ bits == 16 }}"
    prefixes: ["2001:db8:12:3400::/56", "2001:db8:12:3500::/56"]
  tasks:
    - ansible.builtin.set_fact:
        one: "{{ map_domain | softwire.map.ce(prefixes[0]) }}"
        all: "{{ map_domain | softwire.map.ces(prefixes) }}"
        yaml: "{{ map_domain | softwire.map.ce(prefixes[0]) | to_nice_yaml }}"
        odd: "{{ map_domain | combine({'br_address': '2001:db8::1'}) | softwire.map.ce(prefixes[0]) }}"
        owners: "{{ map_domain | softwire.map.owner([['192.0.2.18', '1232'], ['192.0.2.18', 80]]) }}"
        pairs: "{{ map_domain | softwire.map.owner(['192.0.2.18'] | product([1232]) | list) }}"
        nobody: "{{ map_domain | softwire.map.owner('192.0.2.18', 80) is none }}"
        ports: "{{ '52' | softwire.map.port_ranges(psid_length='8') }}"
    - ansible.builtin.set_fact:
        wrong: "{{ map_domain | softwire.map.ce('2001:db9::/56') }}"
      ignore_errors: true
      register: refused
    - ansible.builtin.copy:
        content: >-
          {{ {'one': one, 'all': all, 'yaml': yaml, 'ports': ports, 'owners': owners, 'pairs': pairs, 'nobody': nobody,
          'refused': refused.msg} | to_json }}
        dest: "{{ playbook_dir }}/result.json"
        mode: "0600"
"""


def test_in_a_playbook(tmp_path):
    """Arguments arrive tagged and lazy in ansible-core 2.19, and as strings from templates in 2.18."""
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(PLAYBOOK)
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"), "ANSIBLE_HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local",
         "-e", f"ansible_python_interpreter={sys.executable}", str(playbook)],
        env=environment, capture_output=True, text=True, check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    warning = " ".join((run.stdout + run.stderr).split())
    assert "softwire.map: br_address: '2001:db8::1': lies in 2001:db8::/40 of rules[0]" in warning
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["one"]["map_address"] == "2001:db8:12:3400:0:c000:212:34"
    assert result["one"]["fmrs"] == [result["one"]["rule"]]
    assert [one["psid"] for one in result["all"]] == [0x34, 0x35]
    assert result["ports"] == result["one"]["port_ranges"]
    assert result["owners"] == [{**result["one"], "delegated_prefix": "2001:db8:12:3400::/56"}, None]
    assert result["pairs"] == result["owners"][:1]
    assert result["nobody"] is True
    # A rule that is also an FMR must not come out as a YAML anchor.
    assert "&id" not in result["yaml"]
    assert "softwire.map.ce: end_user_prefix: '2001:db9::/56': is outside every rule" in result["refused"]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ce.ce(DOMAIN, "2001:db9::/56"), "softwire.map.ce: end_user_prefix: '2001:db9::/56': is outside every rule"),
        (lambda: ce.ce({**DOMAIN, "rules": [{}]}, "x"), "softwire.map.ce: 3 faults:\n- rules[0].ipv6_prefix: not set: must be an IPv6 prefix"),
        (lambda: ces.ces(DOMAIN, ["2001:db8::/56", 5]), "softwire.map.ces: prefixes[1]: 5: must be an IPv6 prefix"),
        (lambda: ces.ces(None, []), "softwire.map.ces: domain: not set: must be a MAP domain"),
        (lambda: owner.owner(DOMAIN, "192.0.2.0/24", 5), "softwire.map.owner: ipv4_address: '192.0.2.0/24': must be an IPv4 address"),
        (lambda: port_ranges.port_ranges(300, 8), "softwire.map.port_ranges: psid: 300: must be an integer between 0 and 255"),
        (lambda: port_ranges.port_ranges(3, "x"), "softwire.map.port_ranges: psid_length: 'x': must be an integer between 0 and 16"),
    ],
)
def test_errors_are_filter_errors(call, text):
    with pytest.raises(AnsibleFilterError) as caught:
        call()
    assert str(caught.value).startswith(text)
    # Ansible would append the text of a cause.
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_results_are_plain_json():
    result = ce.ce(DOMAIN, "2001:db8:12:3400::/56")
    assert json.loads(json.dumps(result)) == result
