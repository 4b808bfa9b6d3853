# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The answers to each subcommand, one after the other: what JSON says of it (None: nobody), and the same for people. They raise MapError."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import Any, Tuple

from . import text
from .domains import prepared, text_of, written
from .mapping import calculator, dhcpv6
from .mapping.arithmetic import Domain
from .mapping.errors import Faults, MapError

Answer = Tuple[Any, str]


def ce(asked: Namespace) -> Iterator[Answer]:
    prefix = asked.end_user_prefix
    if asked.isp is not None:
        from .mapping import isp as isps

        domain = Domain(isps.isp_domain(asked.isp, prefix, "--isp"))
    else:
        (domain,) = prepared(asked)
    edge = domain.ce(prefix)
    yield edge, text.ce(edge)


def ces(asked: Namespace) -> Iterator[Answer]:
    below = calculator.part(asked.within, "prefix")
    header = f"{text.CES_HEADER}\n"
    for domain in prepared(asked):
        for edge in domain.ces(*below):
            yield edge, header + text.row_of_ces(edge)
            header = ""
    if header:
        raise MapError("prefix", asked.within, "no rule of the domain has a customer edge there")


def owner(asked: Namespace) -> Iterator[Answer]:
    if asked.address_and_port:
        placed = [("address", line) for line in asked.address_and_port]
    elif asked.domain == "-":
        asked.error("standard input cannot be both the domain and the list of addresses and ports")
    else:
        lines = [line.strip() for line in text_of("-", "standard input").splitlines()]
        placed = [(f"line {number}", line) for number, line in enumerate(lines, 1) if line]
    domains = prepared(asked)
    faults = Faults()
    pairs = [faults.check(calculator.address_and_port, line, path) for path, line in placed]
    faults.refuse()
    for (_path, line), pair in zip(placed, pairs):
        edge = next((edge for edge in (domain.owner(*pair) for domain in domains) if edge), None)
        yield edge, f"{line}  {edge['end_user_prefix'] if edge else 'nobody'}"


def ports(asked: Namespace) -> Iterator[Answer]:
    ranges = calculator.port_set(asked.psid, asked.psid_length, asked.psid_offset)
    yield ranges, "\n".join(map(text.port_range, ranges))


def isp(asked: Namespace) -> Iterator[Answer]:
    from .mapping import isp as isps

    if asked.end_user_prefix is not None:
        domain = isps.isp_domain(asked.isp, asked.end_user_prefix)
        yield domain, text.domain(domain)
        return
    if asked.isp is not None:
        rows = isps.services()[isps.service_name(asked.isp, "isp")]["rules"]
    else:
        keys = ("title", "aliases", "transport", "interface_id", "mesh", "port_count")
        rows = [{"isp": name, **{key: service[key] for key in keys}, "rule_count": len(service["rules"])} for name, service in isps.services().items()]
    yield from zip(rows, text.columns(rows))


def plan(asked: Namespace) -> Iterator[Answer]:
    from .mapping import plan as plans

    made = plans.plan_domain({key: value for key, value in vars(asked).items() if key in plans.KEYS}, asked.warn)
    yield made, text.plan(made)


def options(asked: Namespace) -> Iterator[Answer]:
    value, path = written(asked)
    for option in dhcpv6.options(value, path, asked.warn):
        yield option, text.table(option)


def decode(asked: Namespace) -> Iterator[Answer]:
    domain = dhcpv6.domain_of(" ".join(asked.option), asked.code, asked.warn)
    yield domain, text.domain(domain)
