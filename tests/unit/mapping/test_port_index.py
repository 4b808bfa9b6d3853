"""The numbering of a port set."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.softwire.map.plugins.module_utils.mapping.port_index import nearest_ports, port_index


def port_ranges(psid, psid_length, offset):
    """RFC 7597 section 5.1."""
    tail = 16 - offset - psid_length
    starts = [a << (16 - offset) | psid << tail for a in range(1 if offset else 0, 1 << offset)]
    return [[start, start + (1 << tail) - 1] for start in starts]


def ports(ranges):
    return {port for low, high in ranges for port in range(low, high + 1)} - {0}


def pairs(index):
    return [(first + i, port + i) for first, port, length in index["ranges"] for i in range(length)]


def test_ocn_indexes_lie_in_a_gap_of_the_set():
    index = port_index(port_ranges(42, 6, 6))
    assert index["rewrite"]
    assert index["pool"] == [17072, 18079]
    assert index["count"] == 1008
    assert index["ranges"][0] == [17072, 1696, 16]
    assert index["ranges"][-1] == [18064, 65184, 16]


def test_one_range_needs_no_rewrite():
    assert port_index(port_ranges(3, 5, 0)) == {
        "rewrite": False, "pool": [6144, 8191], "count": 2048, "ranges": [], "static": []}


def test_port_0_is_in_no_pool():
    assert port_index(port_ranges(0, 5, 0))["pool"] == [1, 2047]
    assert port_index([[0, 65535]])["pool"] == [1, 65535]


def test_static_ports_at_the_end_of_one_range_need_no_rewrite():
    index = port_index([[6144, 8191]], [6144, 8191])
    assert (index["rewrite"], index["pool"], index["static"]) == (False, [6145, 8190], [6144, 8191])


def test_static_ports_inside_one_range_do():
    index = port_index([[6144, 8191]], [7000])
    assert index["rewrite"]
    assert index["pool"] == [16384, 16384 + 2046]
    # the last port takes the number of the static one
    assert index["ranges"] == [[16384, 6144, 856], [16384 + 856, 8191, 1], [16384 + 857, 7001, 1190]]


def test_full_address_keeps_its_static_ports_in_the_pool():
    index = port_index([[0, 65535]], [80, 443])
    assert (index["rewrite"], index["pool"], index["count"], index["static"]) == (False, [1, 65535], 65535, [80, 443])


@pytest.mark.parametrize(("ranges", "static"), [
    (port_ranges(42, 6, 6), [1696, 30373, 65199]), (port_ranges(0x34, 8, 4), [4928, 4930, 62275]), ([[6144, 8191]], [6200, 7000, 7001]),
])
def test_a_static_port_moves_few_others(ranges, static):
    """A flow keeps its port where its index still means it; what moves are the last ports of the set."""
    for count in range(1, len(static)):
        before = {port: number for number, port in pairs(port_index(ranges, static[:count]))}
        after = {port: number for number, port in pairs(port_index(ranges, static[:count] + static[-1:]))}
        moved = {port for port in before if after.get(port) != before[port]} - set(static)
        assert len(moved) <= count + 1
        assert moved <= set(sorted(ports(ranges))[-len(static) - 1:])


def test_port_outside_the_set_names_the_nearest():
    with pytest.raises(ValueError, match=r"^port 8080 is not in the port set .* 8401, 8402, 8403, 7379 .*RFC 7597"):
        port_index(port_ranges(0x34, 8, 6), [8080, 8400])


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_impossible_ports(port):
    with pytest.raises(ValueError, match="is not in the port set"):
        port_index([[0, 65535]], [port])


def test_no_port_left():
    with pytest.raises(ValueError, match="use up the whole port set"):
        port_index([[4096, 4097]], [4096, 4097])


def test_no_room_for_the_indexes():
    ranges = port_ranges(0, 1, 6)
    with pytest.raises(ValueError, match="contiguous"):
        port_index(ranges, [1024 * n for n in range(1, 64)])


def test_nearest_ports():
    ranges = [[10, 13], [20, 23]]
    assert nearest_ports(16, ranges) == [13, 12, 20, 11]
    assert nearest_ports(11, ranges, [11, 12], 3) == [10, 13, 20]
    assert nearest_ports(1, [[0, 2]]) == [1, 2]
    assert nearest_ports(5, []) == []


@st.composite
def sets_with_static_ports(draw):
    offset = draw(st.integers(0, 8))
    length = draw(st.integers(1, min(12, 16 - offset)))
    ranges = port_ranges(draw(st.integers(0, (1 << length) - 1)), length, offset)
    mine = sorted(ports(ranges))
    static = draw(st.sets(st.sampled_from(mine), max_size=3)) if mine else set()
    return offset, length, ranges, static


@settings(deadline=None)
@given(sets_with_static_ports())
def test_numbering_is_a_bijection_between_pool_and_set(drawn):
    offset, length, ranges, static = drawn
    try:
        index = port_index(ranges, static)
    except ValueError:
        # three static ports can use up a tiny set, or split the numbers of one that holds nearly half of all ports
        assert ports(ranges) == static or length == 1
        return
    low, high = index["pool"]
    assert 0 < low <= high < 65536
    assert index["count"] == high - low + 1
    assert index["static"] == sorted(static)
    if not index["rewrite"]:
        assert set(range(low, high + 1)) == ports(ranges) - static
        return
    assert [number for number, _port in pairs(index)] == list(range(low, high + 1))
    assert sorted(port for _number, port in pairs(index)) == sorted(ports(ranges) - static)
    assert not static & set(range(low, high + 1))
    if offset <= length:
        assert not ports(ranges) & set(range(low, high + 1))
