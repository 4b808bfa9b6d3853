# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The BPF objects of the collection, of which each is what its source says, and the one that is given. Compiling: tests/kernel/bpf."""

from __future__ import annotations

import re
import struct

import bpf_objects
import pytest

from ansible_collections.softwire.map.plugins.module_utils.routers import bpf_object
from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import MapError

VARIABLE = "map_br_bpf_object"
STALE = "the BPF objects are not of these sources: run `make programs` (Debian 12)"
# Of ELF: a relocatable file; a section with symbols; a function that others see.
RELOCATABLE, SYMBOLS, GLOBAL_FUNCTION = 1, 2, 0x12
SUBPROGRAMS = ".text"  # the section of functions that programs call


def text_at(content, offset):
    return content[offset:content.index(b"\0", offset)].decode()


class Elf:
    """What an object file of 64 bits, little endian, says of itself: its sections and its programs with theirs."""

    def __init__(self, content):
        self.ident, (self.kind, self.machine) = content[:6], struct.unpack_from("<HH", content, 16)
        start, = struct.unpack_from("<Q", content, 40)
        size, count, names = struct.unpack_from("<HHH", content, 58)
        # (name, type, flags, address, offset, size, link, information, alignment, size of an entry)
        headers = [struct.unpack_from("<IIQQQQIIQQ", content, start + size * index) for index in range(count)]
        self.sections = [text_at(content, headers[names][4] + header[0]) for header in headers]
        table, = (header for header in headers if header[1] == SYMBOLS)
        # (name, binding and type, visibility, section, value, size)
        symbols = [struct.unpack_from("<IBBHQQ", content, table[4] + place) for place in range(0, table[5], table[9])]
        self.programs = {text_at(content, headers[table[6]][4] + symbol[0]): self.sections[symbol[3]]
                         for symbol in symbols if symbol[1] == GLOBAL_FUNCTION and self.sections[symbol[3]] != SUBPROGRAMS}


def test_objects_and_sources_are_those_of_the_record():
    assert bpf_objects.digests() == bpf_objects.recorded()["sha256"], STALE


def test_every_source_has_its_object():
    assert bpf_objects.sources()
    assert {bpf_objects.object_of(source) for source in bpf_objects.sources()} == set(bpf_objects.PROGRAMS.glob("*.o")), STALE


@pytest.mark.parametrize("source", bpf_objects.sources(), ids=lambda path: path.name)
def test_an_object_has_the_programs_of_its_source_for_any_little_endian_machine(source):
    elf = Elf(bpf_object.read(bpf_objects.object_of(source).name))
    assert (elf.ident, elf.kind, elf.machine) == (b"\x7fELF\x02\x01", RELOCATABLE, bpf_object.BPF_MACHINE)
    written = re.findall(r'^SEC\("([^"]+)"\)\nint (\w+)\(', source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert written and elf.programs == {name: section for section, name in written}


@pytest.mark.parametrize("source", bpf_objects.sources(), ids=lambda path: path.name)
def test_an_object_has_types_for_the_kernel_and_nothing_for_a_debugger(source):
    sections = Elf(bpf_objects.object_of(source).read_bytes()).sections
    assert {".BTF", ".BTF.ext", ".maps", "license"} <= set(sections)
    assert not [name for name in sections if name.startswith(".debug")]


def read(given):
    return bpf_object.read("mapt.bpf.o", given, VARIABLE)


def test_a_given_object_is_taken_as_it_is(tmp_path):
    target = tmp_path / "given.o"
    content = b"\x7fELF" + bytes(14) + b"\xf7\0 and so on"
    target.write_bytes(content)
    assert read(str(target)) == content


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"text that is longer than an ELF header", b"\x7fELF" + bytes(14) + b"\x3e\x00"])
def test_a_given_file_that_is_no_bpf_object(content, tmp_path):
    target = tmp_path / "given.o"
    target.write_bytes(content)
    with pytest.raises(MapError, match=f"^{VARIABLE}: .*: is no BPF object file"):
        read(str(target))


def test_a_given_file_that_is_not_there(tmp_path):
    with pytest.raises(MapError, match=f"^{VARIABLE}: .*: cannot be read on the controller: Is a directory"):
        read(str(tmp_path))
