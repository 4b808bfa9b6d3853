# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the watcher of a line asks, and which answer counts: RFC 8415 sections 7.6, 15, 16.10, 18.2.6, 18.2.12 and 21.23."""

from __future__ import annotations

import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import line_asking
from ansible_collections.softwire.map.plugins.module_utils.softwire.line_asking import Asking
from ansible_collections.softwire.map.plugins.module_utils.softwire.line_messages import Reply

INFINITY = float("inf")
DUID = b"\0\3\0\1abc"


class Chance:
    """A random.Random: every number is this part of the way from the least to the greatest."""

    def __init__(self, part=0.5):
        self.part, self.drawn = part, 0

    def uniform(self, least, greatest):
        return least + (greatest - least) * self.part

    def getrandbits(self, bits):
        self.drawn += 1
        return (1 << bits) - self.drawn


def reply(xid, containers=(), client=None, refresh=None, max_rt=None):
    return Reply(xid, b"server", client, [], dict.fromkeys(containers, b"rules"), [], refresh, max_rt, [])


def run(asking, end, client=None):
    """[(time, xid, elapsed)] of what is sent until some time where nobody answers."""
    sent = []
    while asking.deadline() <= end:
        now = asking.deadline()
        request = asking.step(now, client)
        sent += [(now, *request)] if request else []
    return sent


def asked(now=100.0, part=0.5, client=None):
    """An exchange that has begun."""
    made = Asking(Chance(part))
    made.trigger(now)
    request = made.step(made.deadline(), client)
    assert request
    return made, request[0]


def test_nothing_is_asked_before_there_is_a_reason():
    assert Asking(Chance()).deadline() == INFINITY and Asking(Chance()).step(100, None) is None


@pytest.mark.parametrize("part, first", [(0, 100.0), (0.5, 100.5), (1, 101.0)])
def test_the_first_request_waits_up_to_a_second(part, first):
    """INF_MAX_DELAY."""
    made = Asking(Chance(part))
    made.trigger(100)
    assert made.deadline() == first


@pytest.mark.parametrize("part, waits", [
    (0.5, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]),
    (0, [0.9, 1.71, 3.249, 6.1731]),
    (1, [1.1, 2.31, 4.851, 10.1871]),
])
def test_requests_are_repeated_less_and_less_often(part, waits):
    """RT of section 15 with IRT 1 s, MRT 3600 s, MRC 0 and MRD 0: it never gives up; the transaction id stays (section 16.1)."""
    made = Asking(Chance(part))
    made.trigger(0)
    sent = run(made, 1e5)
    times = [time for time, _xid, _elapsed in sent]
    assert [later - earlier for earlier, later in zip(times, times[1:])][:len(waits)] == pytest.approx(waits)
    assert {xid for _time, xid, _elapsed in sent} == {b"\xff\xff\xff"}
    assert [elapsed for _time, _xid, elapsed in sent] == pytest.approx([time - times[0] for time in times])


@pytest.mark.parametrize("part, greatest", [(0, 3240), (1, 3960)])
def test_the_longest_wait_is_spread_as_well(part, greatest):
    made = Asking(Chance(part))
    made.trigger(0)
    times = [time for time, _xid, _elapsed in run(made, 1e5)]
    assert times[-1] - times[-2] == pytest.approx(greatest)


@pytest.mark.parametrize("asked_for, longest", [(None, 3600), (59, 3600), (60, 60), (86400, 86400), (86401, 3600)])
def test_a_server_may_set_the_longest_wait(asked_for, longest):
    """Section 21.25."""
    made, xid = asked()
    made.take(reply(xid, [94], max_rt=asked_for), 101)
    assert made.max_rt == longest


@pytest.mark.parametrize("refresh, after", [(None, 86400), (0, 600), (599, 600), (600, 600), (3600, 3600), (0xFFFFFFFE, 0xFFFFFFFE), (0xFFFFFFFF, INFINITY)])
def test_what_was_learnt_is_refreshed(refresh, after):
    """Section 21.23, with IRT_DEFAULT and IRT_MINIMUM of section 7.6."""
    made, xid = asked(part=0)
    assert made.take(reply(xid, [94], refresh=refresh), 200)
    assert made.deadline() == 200 + after
    if after < INFINITY:
        again, elapsed = made.step(made.deadline(), None)
        assert again != xid and elapsed == 0


def test_the_first_answer_with_a_container_ends_it():
    made, xid = asked()
    assert made.answers(reply(xid)) and not made.answers(reply(b"abc"))
    assert made.take(reply(xid, [95]), 101)
    assert not made.answers(reply(xid)) and made.step(102, None) is None


def test_an_answer_without_a_container_waits_a_second_for_a_better_one():
    made, xid = asked(part=0)
    assert made.take(reply(xid, refresh=700), 100.5)
    assert not made.take(reply(xid, refresh=900), 100.6)
    assert made.deadline() == 101.5 and made.answers(reply(xid))
    assert made.take(reply(xid, [94], refresh=800), 101)
    assert made.deadline() == 901


def test_an_answer_without_a_container_counts_where_no_better_one_comes():
    made, xid = asked(part=0)
    made.take(reply(xid, refresh=700), 100.5)
    assert made.step(101.5, None) is None
    assert not made.answers(reply(xid)) and made.deadline() == 801.5


@pytest.mark.parametrize("sent, got, is_right", [(None, None, True), (None, DUID, False), (DUID, None, False), (DUID, DUID, True), (DUID, DUID + b"x", False)])
def test_the_client_identifier_is_the_one_that_was_sent(sent, got, is_right):
    """Section 16.10."""
    made, xid = asked(client=sent)
    assert (made.refusal(reply(xid, client=got)) is None) is is_right


def test_no_more_than_an_exchange_in_half_a_minute():
    """Section 18.2.12, for whatever there is a reason."""
    made, xid = asked(part=0)
    made.take(reply(xid, [94]), 100.1)
    for moment in (100.2, 105, 120, 129.9):
        made.trigger(moment)
        assert made.deadline() == 130
    made.step(130, None)
    made.trigger(200)
    assert made.begins == 200


def test_a_reason_does_not_wait_for_the_next_repetition():
    """An exchange that nobody has answered for long begins anew, as after a link that was down."""
    made = Asking(Chance(0))
    made.trigger(0)
    old = run(made, 20000)[-1][1]
    made.trigger(20001)
    assert made.deadline() == 20001
    xid, elapsed = made.step(20001, DUID)
    assert xid != old and elapsed == 0 and made.client == DUID and made.again == pytest.approx(20001.9)


def test_it_is_said_that_nobody_answers():
    made = Asking(Chance())
    made.trigger(0)
    silences = []
    for _request in range(4):
        made.step(made.deadline(), None)
        silences.append(made.silence())
    assert silences == [None, None, 0.5, 0.5]
    made.take(reply(made.xid, [94]), 30)
    assert made.silence() is None


def test_the_numbers_are_those_of_the_rfc():
    assert (line_asking.INF_MAX_DELAY, line_asking.INF_TIMEOUT, line_asking.INF_MAX_RT, line_asking.RAND) == (1, 1, 3600, 0.1)
    assert (line_asking.IRT_DEFAULT, line_asking.IRT_MINIMUM) == (86400, 600)
