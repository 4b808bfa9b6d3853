# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command: its parser, its faults as lines on standard error, its exit codes."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator

from . import answers
from .mapping.errors import NO_VALUE, SHOWN, MapError, MapErrors

PROGRAM = "softwire-map"
FOUND, REFUSED = 0, 1
EPILOG = """exit code: 0 where everything was found; 1 where something was not found, or the input was refused, with a line on standard
error for each fault; 2 where the command line itself is wrong"""


def main() -> None:
    """softwire-map, with the process's own arguments."""
    # An interrupt, or a reader that has seen enough, ends it as it ends any other tool.
    for name in ("SIGINT", "SIGPIPE"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Answers a command line (without the program's name); the exit code. Raises SystemExit where that is wrong, or asks for help."""
    asked = parser().parse_args(arguments)
    everything = True
    try:
        for answer, text in asked.answers(asked):
            _print(json.dumps(answer) if asked.json else text)
            everything = everything and answer is not None
        _print("", end="", flush=True)
    except MapError as exc:
        faults = exc.faults if isinstance(exc, MapErrors) else [exc]
        for fault in faults[:SHOWN]:
            _say(str(fault))
        if len(faults) > SHOWN:
            _say(f"and {len(faults) - SHOWN} more faults")
        return REFUSED
    return FOUND if everything else REFUSED


def warn(text: str) -> None:
    """Says what is legal but odd."""
    _say(f"warning: {text}")


def _say(text: str) -> None:
    print(f"{PROGRAM}: {' '.join(text.splitlines())}", file=sys.stderr)


def _print(text: str, **how) -> None:
    """print() to standard output. Raises MapError where that cannot be written."""
    try:
        print(text, **how)
    except OSError as exc:
        # Python would try once more at its end, and show a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise MapError("standard output", NO_VALUE, f"cannot be written: {exc.strerror}") from None


def parser() -> argparse.ArgumentParser:
    """The parser; the namespace that it makes has `answers`, which takes it."""
    top = argparse.ArgumentParser(prog=PROGRAM, allow_abbrev=False, description="The arithmetic of MAP (RFC 7597, RFC 7599).", epilog=EPILOG)
    top.add_argument("--version", action=_Version, help="show the version and exit")
    subcommands = top.add_subparsers(metavar="SUBCOMMAND", required=True)

    def add(name: str, function: Callable[..., Iterable[answers.Answer]], what: str) -> argparse.ArgumentParser:
        added = subcommands.add_parser(name, allow_abbrev=False, help=what, description=f"{what[0].upper()}{what[1:]}.", epilog=EPILOG)
        added.set_defaults(answers=function, json=False, error=added.error, warn=warn)
        if function is not _completion:
            added.add_argument("--json", action="store_true", help="print a line of JSON for each answer, with the keys of the filters")
        return added

    one = add("ce", answers.ce, "a customer edge: its address, PSID, port set and MAP address")
    _domain(one, isp=True)
    one.add_argument("end_user_prefix", metavar="PREFIX", help="its IPv6 prefix, such as 2001:db8:12:3400::/56")

    many = add("ces", answers.ces, "the customer edges that a domain has room for, all or those below a prefix")
    _domain(many, isp=True)
    many.add_argument("within", metavar="PREFIX", nargs="?", default="::/0",
                      help="an IPv6 prefix, such as one of a rule, or an IPv4 address or prefix; by default all")

    who = add("owner", answers.owner, "whose address and port: the end-user prefix of the customer edge, or nobody where none can have them")
    _domain(who, isp=True)
    who.add_argument("address_and_port", metavar="ADDRESS:PORT", nargs="*", help="such as 192.0.2.18:1232; by default each line of standard input")

    ports = add("ports", answers.ports, "the port ranges of a PSID")
    ports.add_argument("psid", metavar="PSID")
    ports.add_argument("psid_length", metavar="LENGTH", help="of the PSID in bits")
    ports.add_argument("--psid-offset", metavar="BITS", default="6", help="6 by default; Japanese ISPs have 4 or 6")

    known = add("isp", answers.isp, "the ISPs whose rules are known, the rules of one, or the domain of a line")
    known.add_argument("isp", metavar="ISP", nargs="?", help="a name, such as ocn")
    known.add_argument("end_user_prefix", metavar="PREFIX", nargs="?", help="the IPv6 prefix of a line")

    _plan(add("plan", answers.plan, "a domain for IPv4 pools, subscribers and an IPv6 prefix, and what it offers"))

    encoded = add("options", answers.options, "a domain as the DHCPv6 option of RFC 7598, in hex")
    _domain(encoded, isp=False)

    decoded = add("decode", answers.decode, "the domain in a DHCPv6 option")
    decoded.add_argument("option", metavar="HEX", nargs="+", help="the option with its code and length; also with spaces or colons between bytes")
    decoded.add_argument("--code", metavar="CODE", help="94, 95 or 96, where HEX is only what such a container holds")

    add("completion", _completion, "the completion for bash, as a script: eval \"$(softwire-map completion)\"")
    return top


def _completion(_asked: argparse.Namespace) -> Iterator[answers.Answer]:
    from . import completion

    made = completion.script(parser())
    yield made, made


def _domain(subcommand: argparse.ArgumentParser, isp: bool) -> None:
    """The ways to name a domain; isp: whether by an ISP's name as well."""
    ways = subcommand.add_mutually_exclusive_group(required=True)
    ways.add_argument("-d", "--domain", metavar="FILE",
                      help="a file with the domain, or with map_domain, in JSON, or in YAML where Python has PyYAML; - is standard input")
    ways.add_argument("--option", metavar="HEX", help="a DHCPv6 option that holds the domain")
    if isp:
        ways.add_argument("--isp", metavar="ISP", help="the name of an ISP whose rules are known, such as ocn")


def _plan(subcommand: argparse.ArgumentParser) -> None:
    """What to plan for; the options have the names of the filter's keys."""
    subcommand.add_argument("--ipv4-pools", metavar="PREFIX", nargs="+", required=True, help="IPv4 prefixes")
    subcommand.add_argument("--ipv6-prefix", metavar="PREFIX", required=True, help="where the end-user prefixes are taken from")
    subcommand.add_argument("--subscribers", metavar="COUNT", help="the customer edges; this, or the ports of each, or both")
    subcommand.add_argument("--ports-per-subscriber", metavar="COUNT", help="the least number of ports that each has")
    subcommand.add_argument("--psid-offset", metavar="BITS", help="6 by default, 4 with draft03")
    subcommand.add_argument("--end-user-prefix-length", metavar="BITS", help="by default the first of 56, 60 and 64 that there is room for")
    subcommand.add_argument("--transport", choices=("map-e", "map-t"), help="map-t by default")
    subcommand.add_argument("--interface-id", choices=("rfc7597", "draft03"), help="rfc7597 by default")
    subcommand.add_argument("--br-address", metavar="ADDRESS", nargs="+", help="of the border relays, for map-e")
    subcommand.add_argument("--dmr", metavar="PREFIX", help="the default mapping rule of map-t, 64:ff9b::/96 by default")
    subcommand.add_argument("--fmr", action="store_true", help="customer edges send to each other directly")


class _Version(argparse.Action):
    """--version, of the installed package: looked up only when it is asked for, since that takes as long as an answer."""

    def __init__(self, option_strings, dest, **named) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, **named)

    def __call__(self, *_unused) -> None:
        from importlib.metadata import version

        print(f"{PROGRAM} {version(PROGRAM)}")
        sys.exit(FOUND)
