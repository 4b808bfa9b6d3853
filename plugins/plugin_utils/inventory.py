# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all hosts of an inventory are together: domains, each with its border relays and customer edges."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible.errors import AnsibleError

from ansible_collections.softwire.map.plugins.module_utils.mapping.arithmetic import Domain
from ansible_collections.softwire.map.plugins.module_utils.routers import br_variables, ce_variables
from ansible_collections.softwire.map.plugins.module_utils.routers import instance as instances
from ansible_collections.softwire.map.plugins.module_utils.mapping import checks, conflicts
from ansible_collections.softwire.map.plugins.module_utils.mapping.domain import parse_domain
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import Faults, MapError

# A role's defaults are no variables of its hosts. None stands for the inventory variable map_domain.
CE_DEFAULTS = {"map_ce_state": "present", "map_ce_isp": "", "map_ce_domain": None}
BR_DEFAULTS = {"map_br_state": "present", "map_br_domains": None, "map_br_instance": "br", "map_br_translator": "auto"}


@dataclass
class Members:
    """A domain, ready for arithmetic, and the hosts that are part of it."""

    domain: Domain
    border_relays: list[str] = field(default_factory=list)
    customer_edges: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # host and its `ce` dict

    def coinciding(self) -> Iterator[tuple[str, str, MapError]]:
        """Two hosts that are one CE, or of which one lies in the end-user prefix of the other one, and the fault."""
        placed = [(f"hostvars['{host}'].map_ce_end_user_prefix", ce) for host, ce in self.customer_edges]
        for index, other, error in conflicts.coinciding(placed):
            yield self.customer_edges[index][0], self.customer_edges[other][0], error


@dataclass(frozen=True)
class Relay:
    """A border relay as the rest of the network sees it. domains: checked ones; carrier: what it takes first to carry its softwires."""

    host: str
    instance: str
    carrier: str
    domains: list[dict[str, Any]]


class Network:
    """The hosts of an inventory by domain; equal domains are one, however they are written.

    hostvars: {host: its variables}, as Ansible has it.
    customer_edges, border_relays: names of hosts. One whose state is absent does not count.
    domains: list of Members, in the order of their first host.
    border_relays: list of Relay, in the order of the inventory.
    unusable: [(host, what is wrong with its variables)]
    """

    def __init__(self, hostvars: Mapping, customer_edges: Iterable[str], border_relays: Iterable[str] = ()) -> None:
        self.border_relays: list[Relay] = []
        self.unusable: list[tuple[str, str]] = []
        self._members: dict[str, Members] = {}
        self._written: dict[str, Members] = {}
        for names, add in ((border_relays, self._add_border_relay), (customer_edges, self._add_customer_edge)):
            for host in names:
                try:
                    add(str(host), hostvars[host])
                except MapError as exc:
                    self.unusable.append((str(host), str(exc)))

    @property
    def domains(self) -> list[Members]:
        return list(self._members.values())

    def _add_customer_edge(self, host: str, variables: Mapping) -> None:
        if _value(variables, "map_ce_state", CE_DEFAULTS) == "absent":
            return
        path = "map_ce_end_user_prefix"
        if path not in variables:
            raise MapError(path, None, "is required; set it in the inventory")
        prefix = read(variables, path)
        domain, isp = (_value(variables, name, CE_DEFAULTS) for name in ("map_ce_domain", "map_ce_isp"))
        members = self._of(ce_variables.domain_of(domain, isp, prefix), "map_ce_domain")
        members.customer_edges.append((host, members.domain.ce(prefix, path)))

    def _add_border_relay(self, host: str, variables: Mapping) -> None:
        if _value(variables, "map_br_state", BR_DEFAULTS) == "absent":
            return
        domains = _value(variables, "map_br_domains", BR_DEFAULTS)
        faults = Faults()
        checked = br_variables.domains_of(domains, faults)
        instance = faults.check(checks.instance, _value(variables, "map_br_instance", BR_DEFAULTS), "map_br_instance")
        wanted = faults.check(checks.choice, _value(variables, "map_br_translator", BR_DEFAULTS), "map_br_translator", ("auto", *instances.TRANSLATORS))
        faults.refuse()
        explicit = any(rule["psid"] is not None for domain in checked for rule in domain["rules"])
        carrier = instances.carriers("br", checked[0]["transport"], wanted, explicit)[0]
        self.border_relays.append(Relay(host, instance, carrier, checked))
        for domain in checked:
            self._of(domain, "map_br_domains").border_relays.append(host)

    def _of(self, written: Any, path: str) -> Members:
        """The members of a domain. A fleet writes one domain a thousand times, and reading it takes long."""
        key = json.dumps(written, sort_keys=True, default=str)
        if key not in self._written:
            domain = parse_domain(written, path)
            self._written[key] = self._members.setdefault(json.dumps(domain, sort_keys=True), Members(Domain(domain)))
        return self._written[key]


def _value(variables: Mapping, name: str, defaults: dict[str, Any]) -> Any:
    """A role's variable as the role would see it."""
    if name in variables:
        return read(variables, name)
    if defaults[name] is not None:
        return defaults[name]
    domain = read(variables, "map_domain") if "map_domain" in variables else {}
    return domain if name == "map_ce_domain" else [domain]


def read(variables: Mapping, name: str) -> Any:
    """A variable of a host, templated."""
    try:
        return variables[name]
    except AnsibleError as exc:
        raise MapError(name, "its template", f"cannot be filled in: {exc}") from None
