# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module deploy leaves in the audit trail, and in the log of the router."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from ansible.module_utils import basic
from pretended_router import BY, MOVED, UNITS, offered

from ansible_collections.softwire.map.plugins.module_utils.softwire import audit, generations, login, paths, rollback
from ansible_collections.softwire.map.plugins.modules import deploy


@pytest.fixture(autouse=True)
def came_by_ssh(monkeypatch):
    monkeypatch.setattr(login, "user", lambda: "ansible")
    monkeypatch.setattr(login, "connection", lambda: ["2001:db8::9", "50000", "2001:db8::1", "22"])


def new(router, action, **parameters):
    """(the result of an action, the lines that it adds: [(event, the other fields but those of each line)])."""
    before = len(router.trail())
    result = action(**parameters)
    return result, [(line["event"], {key: value for key, value in line.items() if key not in ("format", "time", "uptime", "event", "by")})
                    for line in router.trail()[before:]]


def test_a_deployment_and_its_confirmation(router):
    result, lines = new(router, router.run, alternatives=offered())
    name = result["generation"]
    assert lines == [("deploy", {"state": "present", "from": None, "to": name, "applied": "start", "drift": []}), ("confirm", {"to": name})]
    assert [line["by"] for line in router.trail()] == [{**BY, "remote_user": "ansible", "address": "2001:db8::9"}] * 2


@pytest.mark.parametrize("changes, how", [({"reserved_ports": [53300]}, "reload"), (MOVED, "restart")])
def test_from_where_to_where_and_how(changes, how, running):
    first = running.instance.running()
    result, lines = new(running, running.run, alternatives=offered(**changes))
    assert lines[0] == ("deploy", {"state": "present", "from": first, "to": result["generation"], "applied": how, "drift": []})


def test_a_return_that_somebody_asks_for(running):
    first = running.instance.running()
    second = running.run(alternatives=offered(**MOVED))["generation"]
    _result, lines = new(running, running.run, state="rollback")
    assert lines == [("deploy", {"state": "rollback", "from": second, "to": first, "applied": "restart", "drift": []}), ("confirm", {"to": first})]


def test_what_somebody_had_changed(running):
    running.drift = ["one thing", "another"]
    _result, lines = new(running, running.run, alternatives=offered())
    assert lines[0][1]["drift"] == ["one thing", "another"] and lines[0][1]["from"] == lines[0][1]["to"]
    assert audit.read(running.instance, 0)["counts"]["drift"] == 1


def test_a_run_that_changes_nothing_leaves_no_line(running):
    before = running.instance.trail.read_bytes()
    assert running.run(alternatives=offered())["changed"] is False and running.instance.trail.read_bytes() == before


def test_new_units_alone_switch_nothing(running):
    running.stale = True
    _result, lines = new(running, running.run, alternatives=offered())
    assert [(event, fields["applied"]) for event, fields in lines] == [("deploy", "nothing")]


@pytest.mark.parametrize("parameters", [
    {"alternatives": offered(**MOVED)}, {"alternatives": offered()}, {"state": "absent"}, {"state": "rollback", "generation": "0009-aa"}])
def test_check_mode_writes_nothing(parameters, running):
    running.drift = ["one thing"]
    before = {path: path.read_bytes() for path in running.logs.iterdir()}
    running.run(check=True, **parameters)
    assert {path: path.read_bytes() for path in running.logs.iterdir()} == before


def test_check_mode_makes_no_directory(router):
    router.run(check=True, alternatives=offered())
    router.nft_refuses = True
    assert router.run(check=True, alternatives=offered())["failed"] is True
    assert not router.logs.parent.exists()


def test_what_is_refused(router):
    router.nft_refuses = True
    result, lines = new(router, router.run, alternatives=offered())
    assert lines == [("failure", {"detail": result["msg"].removeprefix("instance ce: ")})] and "nft refuses main/guard.nft" in result["msg"]


def test_nobody_would_watch(running):
    running.watches = False
    _result, lines = new(running, running.run, alternatives=offered(**MOVED))
    assert [event for event, _fields in lines] == ["deploy", "failure"] and lines[1][1]["detail"].startswith("nothing was switched: ")


def test_a_generation_that_does_not_come_up(running):
    first = running.instance.running()
    running.faults = ["link ce-tun (namespace main): missing"]
    _result, lines = new(running, running.run, alternatives=offered(**MOVED))
    assert [event for event, _fields in lines] == ["deploy", "rollback"]
    assert lines[1][1] == {"from": lines[0][1]["to"], "to": first, "reason": "failed", "detail": running.faults[0], "result": "good"}


def test_what_worked_and_does_not_any_more(running):
    running.works = [{"ping to 192.0.2.53"}, set()]
    _result, lines = new(running, running.run, alternatives=offered(**MOVED), health_target="192.0.2.53")
    assert (lines[1][1]["reason"], lines[1][1]["detail"]) == ("unhealthy", "ping to 192.0.2.53 worked before, and does not now")


def test_a_rollback_that_fails_too(running):
    first = running.instance.running()
    running.refuses = {first, running.instance.next_name(generations.decoded(offered(**MOVED)[0]["files"]))}
    _result, lines = new(running, running.run, alternatives=offered(**MOVED))
    assert [(event, fields.get("result")) for event, fields in lines] == [("deploy", None), ("rollback", "failed")]


def test_a_deployment_that_nobody_watches_over(running):
    first = running.instance.running()
    second = running.run(alternatives=offered(**MOVED), confirm=False)["generation"]
    running.watched = False
    _result, lines = new(running, running.run, alternatives=offered())
    assert lines == [("rollback", {"from": second, "to": first, "reason": "abandoned", "detail": "", "result": "good"})]


def test_a_confirmation_that_comes_too_late(running):
    second = running.run(alternatives=offered(**MOVED), confirm=False)["generation"]
    rollback.Transaction(running.instance).roll_back("unconfirmed")
    result, lines = new(running, running.call, check=False, confirm=second)
    assert result["failed"] and lines == []


def test_the_end_of_an_instance_is_the_last_line(running):
    first = running.instance.running()
    _result, lines = new(running, running.run, state="absent")
    assert lines == [("remove", {"from": first})] and not running.etc.exists()
    _result, lines = new(running, running.run, state="absent")
    assert lines == []


@pytest.mark.parametrize("parameters", [{"alternatives": offered(**MOVED)}, {"state": "rollback", "generation": "FIRST"}, {"state": "absent"}])
def test_no_room_for_the_trail_is_a_warning(parameters, running):
    first = running.instance.running()
    running.run(alternatives=offered(reserved_ports=[53300]))
    running.instance.trail.unlink()
    running.instance.trail.mkdir()  # cannot be written
    result = running.run(**{key: first if value == "FIRST" else value for key, value in parameters.items()})
    assert result["failed"] is False and result["changed"] is True
    assert running.warnings and all("the audit trail lacks this" in text for text in running.warnings)


@pytest.fixture(params=["syslog", "journal"])
def logged(request, monkeypatch):
    """What Ansible hands to the log of the machine."""
    said = []
    monkeypatch.setattr(basic, "has_journal", request.param == "journal")
    monkeypatch.setattr(basic, "journal", SimpleNamespace(send=lambda **fields: said.append(json.dumps(fields))), raising=False)
    monkeypatch.setattr(basic.syslog, "syslog", lambda _priority, text: said.append(text))
    return said


def test_a_generation_does_not_go_to_the_log(logged, monkeypatch, capfd, tmp_path):
    """The module as Ansible calls it, with its invocation written down."""
    arguments = {"instance": "ce", "state": "present", "_ansible_remote_tmp": str(tmp_path), "_ansible_keep_remote_files": False,
                 "_from_controller": json.dumps({"by": BY, "alternatives": offered(), "units": UNITS})}
    assert len(arguments["_from_controller"]) > 100000
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    monkeypatch.setattr(paths, "SYSTEMD", tmp_path / "none")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        deploy.main()
    result = json.loads(capfd.readouterr().out)
    assert result["msg"] == "instance ce: systemd is not running on this machine; it is needed to bring the softwire up at boot"
    said = "".join(logged)
    assert "instance=ce" in said and "state=present" in said and "generation=" in said
    assert len(said) < 3000 and len(json.dumps(result)) < 3000
    for word in ("alternatives", "nft", "alice", "base64"):
        assert word not in said and word not in json.dumps(result["invocation"])
