# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The BPF programs of a generation as data: what is loaded, what its maps hold, where it is attached; and the files that say so.

Any number of objects can be loaded by one instance, each below a name of its own: <pins>/<object>/programs, <pins>/<object>/maps.
A program that is not concerned, or is done, leaves the packet to the next one on its hook (TC_ACT_UNSPEC); the lowest preference
is first. tests/unit/routers/test_programs.py has a whole example.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import bpf_object

# Preferences of tc filters. On the way out the NAPT comes before what carries the softwire, on the way in after it.
NAPT_OUT, SOFTWIRE, NAPT_IN = 7590, 7599, 7610
# Of the first program of a fast path, by object: instances of both transports may have the same interfaces.
FAST_PATH = {"mape": 7591, "translate": 7593}
# Templates of files in the namespace where the programs are.
FILES = {"bpftool": "bpftool.j2", "tc": "tc.j2"}
ONLY = "00 00 00 00"  # the key of a map with one entry


def pins(instance: str) -> str:
    """The directory of what an instance pins; a BPF file system is mounted there."""
    return f"/run/softwire/{instance}/bpf"


def pinned(instance: str, loaded: str, program: str) -> str:
    """The path of a program of a loaded object."""
    return f"{pins(instance)}/{loaded}/programs/{program}"


def entry(name: str, key: str, value: str, comment: str = "") -> dict[str, str]:
    """An entry of a map: its name, key and value in hexadecimal bytes with spaces, and what it is for people."""
    return {"map": name, "key": key, "value": value, "comment": comment}


def entries(name: str, made: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Entries of one map, from dicts of key, value and comment as bpf_rule makes them."""
    return [entry(name, **each) for each in made]


def loaded(name: str, comment: str, counters: list[str], maps: list[dict[str, str]]) -> dict[str, Any]:
    """An object: the name of its file without .bpf.o, what it is for people, the names in its map `counters` by their index, and the entries."""
    return {"name": name, "comment": comment, "counters": counters, "entries": maps}


def attachment(device: str, hook: str, preference: int, program: str, comment: str) -> dict[str, Any]:
    """Where a program is attached: an interface and egress or ingress of it; program: its path, of pinned()."""
    return {"device": device, "hook": hook, "preference": preference, "program": program, "comment": comment}


def described(instance: str, namespace: str, objects: list[dict[str, Any]], attached: list[dict[str, Any]]) -> dict[str, Any]:
    """What templates, runner and info know of an instance's programs. namespace: of the interfaces that they are attached to."""
    return {"pins": pins(instance), "namespace": namespace, "objects": objects, "attached": attached}


def plan(bpf: dict[str, Any]) -> dict[str, str]:
    """{path in the generation: template} of the files that load and attach what described() has made."""
    return {f"{bpf['namespace']}/{name}": template for name, template in FILES.items()}


def object_files(bpf: dict[str, Any]) -> dict[str, bytes]:
    """{path in the generation: bytes} of the collection's own objects."""
    return {f"{bpf['namespace']}/{each['name']}.bpf.o": bpf_object.read(f"{each['name']}.bpf.o") for each in bpf["objects"]}
