# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module deploy on a pretended router in a temporary directory."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import role_variables
import loose_files
import pytest
from pretended_router import MOVED, UNITS, Router, offered

from ansible_collections.softwire.map.plugins.module_utils.softwire import deploying, generations, health, paths, rollback


def test_the_first_time(router):
    result = router.run(alternatives=offered())
    assert (result["failed"], result["changed"], result["applied"], result["alternative"]) == (False, True, "start", "jool_siit")
    assert router.instance.running() == result["generation"] and result["generation"].startswith("0001-")
    assert router.instance.files() == generations.decoded(offered()[0]["files"])
    assert {path.name: path.read_text() for path in router.units.glob("softwire*")} == UNITS
    assert router.unit.stat().st_mode & 0o777 == 0o644
    assert router.actions() == ["daemon-reload", "reset-failed", "start", "enable"]
    headers = {entry["after_header"] for entry in result["diff"]}
    assert str(router.unit) in headers and str(router.instance.current / "main/ip") in headers


def test_the_second_time_nothing_changes(running):
    before = running.tree()
    result = running.run(alternatives=offered())
    assert (result["failed"], result["changed"], result["applied"], result["diff"]) == (False, False, "nothing", [])
    assert running.actions() == [] and running.tree() == before


def test_what_was_sent_does_not_travel_back(router):
    # Every file of every alternative: Ansible would keep it for each router until the task has ended.
    for result in (router.run(alternatives=offered()), router.run(alternatives=offered()), router.call(confirm="0009-ab", check=False)):
        assert set(result["invocation"]["module_args"]) == {
            "instance", "state", "generation", "install_packages", "confirm_timeout", "health_target", "keep_generations",
            "metrics", "metrics_directory"}


@pytest.mark.parametrize("check", [True, False])
def test_what_somebody_has_changed_is_named_and_put_right(running, check):
    running.drift = ["one thing", "another"]
    result = running.run(check=check, alternatives=offered())
    assert (result["failed"], result["changed"], result["drift"]) == (False, True, ["one thing", "another"])
    assert [entry["before"] for entry in result["diff"]] == ["one thing\nanother\n"]
    if check:
        assert result["applied"] == "nothing" and running.actions() == [] and running.drift
    else:
        assert result["applied"] == "reload" and running.actions() == ["reset-failed", "reload", "enable"] and not running.drift
    assert running.run(alternatives=offered())["changed"] is check


def test_units_that_systemd_has_not_read_are_read(running):
    running.stale = True
    result = running.run(alternatives=offered())
    assert (result["failed"], result["changed"], result["applied"]) == (False, True, "nothing")
    assert "daemon-reload" in running.actions() and not running.run(alternatives=offered())["changed"]


def test_a_keeper_that_does_not_run_is_started(running):
    running.kept = False
    result = running.run(alternatives=offered())
    assert (result["failed"], result["changed"], result["applied"]) == (False, True, "nothing")
    assert running.kept and not running.run(alternatives=offered())["changed"]


def test_what_cannot_be_enabled_fails_and_goes_back(router):
    router.unwritable_wants = True
    result = router.run(alternatives=offered())
    assert result["failed"] and "does not start at the next boot; nothing runs, as before: what went wrong" in result["msg"]
    assert router.instance.running() is None and not router.active


def test_a_new_generation_puts_everything_right_by_the_way(running):
    running.drift = ["one thing"]
    result = running.run(alternatives=offered(max_ports_per_client=100))
    assert (result["drift"], result["applied"], result["changed"]) == ([], "reload", True) and not running.drift


def test_a_generation_that_is_not_up_as_a_whole_is_brought_up_again(running):
    """As where a power cut or a kill met an attempt to put things right."""
    (running.run_directory / "ce" / "applied").write_text("/etc/softwire/ce/generations/0009-aa")
    result = running.run(alternatives=offered())
    assert (result["failed"], result["changed"], result["applied"]) == (False, True, "reload")
    assert not running.run(alternatives=offered())["changed"]


def test_what_systemd_calls_done_but_is_not_up_is_rolled_back(running):
    running.half = True
    result = running.run(alternatives=offered(**MOVED))
    assert result["failed"] and "generation 0002-" in result["msg"] and "is not up as a whole" in result["msg"]
    assert running.instance.running().startswith("0001-") and running.actions()[-1] == "reload-or-restart"


def test_check_mode_changes_nothing(router):
    before = router.tree()
    result = router.run(check=True, alternatives=offered())
    assert result["changed"] and not result["failed"] and result["diff"]
    assert router.tree() == before and router.actions() == []
    assert [argv[:3] for argv in router.calls if argv[0] == "nft"] == [["nft", "-c", "-f"]] * 2


def test_check_mode_says_what_nft_refuses(router):
    router.nft_refuses = True
    result = router.run(check=True, alternatives=offered())
    assert result["failed"] and result["msg"].startswith("instance ce: nft refuses main/guard.nft, nothing was changed: what went wrong")


@pytest.mark.parametrize("changes, how", [
    ({"reserved_ports": [53300]}, "reload"), ({"wan_gateway": "2001:db8:6::9"}, "reload"), (MOVED, "restart"), ({"napt_namespace": ""}, "restart")])
def test_a_change_reloads_where_that_suffices(changes, how, running):
    first = running.instance.running()
    result = running.run(alternatives=offered(**changes))
    assert not result["failed"], result
    assert (result["changed"], result["applied"]) == (True, how)
    assert running.actions() == ["reset-failed", how, "enable"]
    assert running.instance.running() == result["generation"] != first
    assert (running.instance.generations / first).is_dir()


def test_a_stopped_unit_is_started(running):
    running.active = False
    result = running.run(alternatives=offered())
    assert (result["changed"], result["applied"], result["diff"]) == (True, "start", [])
    assert len(list(running.instance.generations.iterdir())) == 1


def test_a_disabled_unit_is_enabled(running):
    (running.wants / "softwire@ce.service").unlink()
    result = running.run(alternatives=offered())
    assert (result["changed"], result["applied"]) == (True, "nothing")
    assert running.actions() == ["enable"] and (running.wants / "softwire@ce.service").is_symlink()


def test_a_new_unit_file_stops_nothing(running):
    result = running.run(alternatives=offered(), units={**UNITS, "softwire@.service": "[Unit]\n# new\n"})
    assert (result["changed"], result["applied"]) == (True, "nothing")
    assert running.actions() == ["daemon-reload", "enable"]
    assert [entry["after"] for entry in result["diff"]] == ["[Unit]\n# new\n"]


def test_what_nft_refuses_never_runs(running):
    before = running.tree()
    running.nft_refuses = True
    result = running.run(alternatives=offered(reserved_ports=[53300]))
    assert result["failed"] and "nft refuses main/guard.nft, nothing was changed" in result["msg"]
    assert running.tree() == before and running.actions() == []


def test_a_generation_that_does_not_start_gives_way_to_the_last_one(running):
    first = running.instance.running()
    name = running.instance.next_name(generations.decoded(offered(**MOVED)[-1]["files"]))
    running.refuses.add(name)
    result = running.run(alternatives=offered(**MOVED))
    assert result["failed"] and result["diff"]
    assert result["msg"] == f"instance ce: the new generation does not restart; generation {first} runs again: softwire: nft says no"
    assert running.instance.running() == first and running.active
    assert running.actions() == ["reset-failed", "restart", "reset-failed", "reload-or-restart"]


def test_a_reload_that_fails_is_rolled_back(running):
    """A reload that was interrupted leaves a mixture; the runner knows, and restarts."""
    first = running.instance.running()
    name = running.instance.next_name(generations.decoded(offered(reserved_ports=[53300])[-1]["files"]))
    running.refuses.add(name)
    result = running.run(alternatives=offered(reserved_ports=[53300]))
    assert f"the new generation does not reload; generation {first} runs again" in result["msg"]
    assert running.actions() == ["reset-failed", "reload", "reset-failed", "reload-or-restart"]
    assert running.instance.running() == first


def test_neither_starts(running):
    first = running.instance.running()
    name = running.instance.next_name(generations.decoded(offered(**MOVED)[-1]["files"]))
    running.refuses |= {name, first}
    result = running.run(alternatives=offered(**MOVED))
    assert f"generation {first} does not start again either: softwire: nft says no" in result["msg"]


def test_the_first_generation_does_not_start(router):
    router.refuses.add(router.instance.next_name(generations.decoded(offered()[-1]["files"])))
    result = router.run(alternatives=offered())
    assert "does not start; nothing runs, as before: softwire: nft says no" in result["msg"]
    assert router.instance.running() is None
    router.refuses.clear()
    assert router.run(alternatives=offered())["generation"].startswith("0002-")


def test_old_generations_go(running):
    for port in range(53300, 53300 + 8):
        assert not running.run(alternatives=offered(reserved_ports=[port]))["failed"]
    assert len(list(running.instance.generations.iterdir())) == 5
    assert not running.run(alternatives=offered(reserved_ports=[53320]), keep_generations=2)["failed"]
    running.call(False, confirm=running.instance.running(), keep_generations=2)
    assert (running.instance.generations / running.instance.running()).is_dir()


def test_the_preferred_alternative_where_the_machine_has_it(router):
    mesh = role_variables.mape("2001:db8:12:3400::/56", rule={"ea_length": 16, "fmr": True})
    router.machine.kernel = "5.10.0"
    assert router.run(alternatives=offered(**mesh))["alternative"] == "ip6_tunnel"
    router.machine.kernel = "6.1.0"
    result = router.run(alternatives=offered(**mesh))
    assert (result["alternative"], result["applied"]) == ("ip6_tunnel_mesh", "restart")


def test_the_preferred_alternative_where_the_distribution_has_it(router):
    """A package that is missing is no reason for another one."""
    router.missing = {"bpftool", "jool_mapt"}
    result = router.run(alternatives=offered(translator="auto"))
    assert (result["alternative"], result["missing_packages"]) == ("bpf", ["bpftool"])
    assert router.run(alternatives=offered(translator="jool_mapt"))["failed"]


def test_missing_packages_are_named_and_nothing_is_done(router):
    router.missing |= {"nft", "jool_siit"}
    before = router.tree()
    result = router.run(alternatives=offered())
    assert (result["failed"], result["missing_packages"]) == (False, ["jool-dkms", "jool-tools", "nftables"])
    assert router.tree() == before and router.actions() == []


@pytest.mark.parametrize("change, said", [
    (lambda router: router.missing.add("nft"), "missing packages: nftables; install them, or let the role do it (install_packages)"),
    (lambda router: setattr(router.machine, "kernel", "5.4.0"), "kernel 5.4.0: older than 5.10"),
    (lambda router: router.machine.links.pop("isp"), "map_ce_wan_interface: isp: this router has no such network interface; it has inet, lan"),
    (lambda router: router.namespaces.add("napt"), "map_ce_napt_namespace: napt: a network namespace of this name exists and is not ours"),
    (lambda router: (router.missing.add("nft"), setattr(router.machine, "release", {"ID": "arch"})), "distribution 'arch': not supported"),
])
def test_what_the_preflight_finds(change, said, router):
    change(router)
    before = router.tree()
    result = router.run(alternatives=offered(), install_packages=False)
    assert result["failed"] and result["msg"].startswith("instance ce: nothing was changed: ")
    assert said in result["msg"] and any(said in fault for fault in result["faults"])
    assert router.tree() == before and router.actions() == []


def test_what_another_instance_has_is_refused_for_a_new_generation_and_for_an_older_one(running):
    assert not running.run(alternatives=offered(**MOVED))["failed"]
    other = generations.Instance("other")
    files = generations.decoded(offered(
        instance="other", end_user_prefix="2001:db8:ce:11b::/64", route_table=7700, lan_interfaces=["inet"], napt_namespace="")[0]["files"])
    name = other.next_name(files)
    other.finish(other.stage(files, name), name)
    rollback.Transaction(other).switch(name)
    before = running.tree()
    for parameters in ({"alternatives": offered()}, {"state": "rollback"}):
        result = running.run(**parameters)
        assert result["failed"] and result["msg"] == (
            "instance ce: nothing was changed: map_ce_veth_network: 192.0.0.0/29: overlaps 192.0.0.0/29 of instance other of this router; choose another")
        assert running.tree() == before and running.actions() == []


def test_another_distribution_may_have_what_is_needed(router):
    router.machine.release = {"ID": "arch"}
    assert not router.run(alternatives=offered())["failed"]


def test_what_a_killed_run_left_is_ours(running):
    running.active = False
    assert not running.run(alternatives=offered())["failed"]
    (running.run_directory / "ce" / "journal").unlink()
    running.active = False
    assert "not ours" in running.run(alternatives=offered())["msg"]


class Killed(BaseException):
    pass


def killed_at(running, monkeypatch, moment, **changes):
    def command(argv):
        if moment in argv:
            raise Killed
        return Router.command(running, argv)

    monkeypatch.setattr(running, "command", command)
    with pytest.raises(Killed):
        running.run(alternatives=offered(**changes))
    monkeypatch.setattr(running, "command", lambda argv: Router.command(running, argv))


@pytest.mark.parametrize("moment", ["reset-failed", "restart"])
def test_a_run_killed_while_it_switches_is_rolled_back(moment, running, monkeypatch):
    first = running.instance.running()
    killed_at(running, monkeypatch, moment, **MOVED)
    transaction = rollback.Transaction(running.instance)
    assert running.watched and transaction.record()["previous"] == first
    assert transaction.roll_back("unconfirmed") == f"generation {first} runs again"
    assert running.instance.running() == first and running.active
    result = running.run(alternatives=offered(**MOVED))
    assert (result["failed"], result["changed"], result["applied"]) == (False, True, "restart")
    assert running.run(alternatives=offered(**MOVED))["changed"] is False


def test_a_run_rolls_back_what_nobody_watches_over(running, monkeypatch):
    killed_at(running, monkeypatch, "restart", **MOVED)
    running.watched = False
    result = running.run(alternatives=offered())
    assert (result["failed"], result["changed"], result["applied"]) == (False, False, "nothing")


def test_a_run_waits_for_another_one(running, monkeypatch):
    running.run(alternatives=offered(**MOVED), confirm=False)
    transaction = rollback.Transaction(running.instance)
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            transaction.confirm(running.instance.running())

    monkeypatch.setattr(time, "sleep", pause)
    result = running.run(alternatives=offered(**MOVED))
    assert (result["failed"], result["changed"], len(pauses)) == (False, False, 3)


def test_another_one_that_does_not_end(running, monkeypatch):
    """It is waited for as long as its own confirmation may take, and a little longer."""
    name = running.run(alternatives=offered(**MOVED), confirm=False, confirm_timeout=3600)["generation"]
    before, clock = running.tree(), SimpleNamespace(now=time.monotonic())
    start, pauses = clock.now, []

    def pause(seconds):
        pauses.append(seconds)
        clock.now += 100

    monkeypatch.setattr(deploying, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=pause))
    result = running.run(alternatives=offered(reserved_ports=[53300]))
    assert result["msg"] == (f"instance ce: nothing was changed: generation {name} waits for its confirmation, and is not rolled back in time; "
                             "journalctl -u softwire-rollback-ce.service says why")
    assert running.tree() == before and 3600 + deploying.PATIENCE - 100 <= clock.now - start <= 3600 + deploying.PATIENCE + 100


def test_check_mode_says_that_a_real_run_would_wait(running):
    running.run(alternatives=offered(**MOVED), confirm=False)
    before, name = running.tree(), running.instance.running()
    result = running.run(check=True, alternatives=offered(**MOVED))
    assert (result["failed"], result["changed"], result["diff"]) == (False, False, [])
    assert running.warnings == [f"instance ce: generation {name} waits for its confirmation; a real run waits for that, and what it would "
                                "change then is what this one shows"]
    assert running.run(check=True, alternatives=offered())["changed"] and running.tree() == before


@pytest.mark.parametrize("state", ["present", "absent", "rollback"])
def test_check_mode_shows_what_a_real_run_would_change_after_it_rolled_back(state, running, monkeypatch):
    first = running.instance.running()
    killed_at(running, monkeypatch, "restart", **MOVED)
    running.watched = False
    before, waiting = running.tree(), running.instance.running()
    result = running.run(check=True, state=state, alternatives=offered())
    assert running.warnings == [f"instance ce: generation {waiting} was not confirmed, and nobody watches over it; a real run first returns to {first}"]
    assert running.tree() == before and running.instance.running() == waiting != first
    if state == "present":
        assert (result["changed"], result["generation"], result["diff"]) == (False, first, [])
        assert running.run(check=True, alternatives=offered(**MOVED))["diff"]
    elif state == "absent":
        assert result["changed"] and "192.0.0.8" not in str(result["diff"])
    else:
        assert result["failed"] and "no generation before the running one" in result["msg"]


def test_check_mode_where_the_first_deployment_would_be_rolled_back(router, monkeypatch):
    killed_at(router, monkeypatch, "start")
    router.watched = False
    result = router.run(check=True, alternatives=offered())
    assert result["changed"] and "a real run first returns to nothing" in router.warnings[0]
    assert str(router.instance.current / "main/ip") in {entry["after_header"] for entry in result["diff"]}


def test_a_record_that_is_lost_is_said_and_rolled_back(running):
    first = running.instance.running()
    running.run(alternatives=offered(**MOVED), confirm=False)
    running.instance.unconfirmed.write_text("")
    running.watched = False
    assert not running.run(alternatives=offered())["changed"] and running.instance.running() == first
    assert running.warnings == [f"{running.instance.unconfirmed}: is empty or torn; the last confirmed generation counts as the one before, {first}"]


def test_a_change_waits_for_its_confirmation(running):
    first = running.instance.running()
    result = running.run(alternatives=offered(**MOVED), confirm=False)
    assert (result["unconfirmed"], result["previous"]) == (True, first) and running.watched
    record = json.loads((running.instance.directory / "unconfirmed").read_text())
    assert (record["generation"], record["previous"], record["active"]) == (result["generation"], first, True)
    wrong = running.call(False, confirm=first)
    assert wrong["failed"] and "is not waiting for a confirmation" in wrong["msg"]
    right = running.call(False, confirm=result["generation"])
    assert not right["failed"] and not (running.instance.directory / "unconfirmed").exists()
    assert running.call(False, confirm=result["generation"])["failed"]


def test_nothing_is_switched_where_nobody_would_watch_over_it(running):
    first = running.instance.running()
    running.watches = False
    result = running.run(alternatives=offered(**MOVED))
    assert result["msg"].startswith("instance ce: nothing was switched: nobody would watch over generation 0002-")
    assert result["msg"].endswith(": softwire-rollback-ce.service has ended at once: softwire: nft says no")  # what the journal said
    assert running.instance.running() == first and not running.instance.unconfirmed.exists()
    assert running.actions() == []


def test_a_state_that_is_not_as_it_should_be_is_rolled_back(running):
    first = running.instance.running()
    running.faults = ["link ce-veth (namespace main): missing"]
    result = running.run(alternatives=offered(**MOVED))
    assert f"does not restart; generation {first} runs again: link ce-veth (namespace main): missing" in result["msg"]
    assert running.instance.running() == first and not (running.instance.directory / "unconfirmed").exists()


RELAY, PING = "a ping of the border relay 2001:db8:ffff::1", "ping to 192.0.2.53"


@pytest.mark.parametrize("before, after, lost", [
    ({RELAY, PING}, {RELAY}, [PING]), ({RELAY}, set(), [RELAY]), (set(), set(), []), (set(), {PING}, []), ({PING}, {RELAY, PING}, []),
])
def test_what_worked_before_has_to_work_after(before, after, lost, router):
    first = router.run(alternatives=offered())
    assert not first["failed"] and first["works"] == []
    router.works = [before, after]
    result = router.run(alternatives=offered(**MOVED), health_target="192.0.2.53")
    assert result["failed"] is bool(lost)
    if lost:
        assert [f"{what} worked before, and does not now" in result["msg"] for what in lost] == [True], result["msg"]
        assert router.instance.running() == first["generation"] and router.asked[1:] == ["192.0.2.53"] * (1 + health.ATTEMPTS)
    else:
        assert result["works"] == sorted(before or after)


def test_what_takes_a_moment_to_work_again_is_waited_for(router):
    assert not router.run(alternatives=offered())["failed"]
    router.works = [{PING}, set(), set(), {PING}]
    assert not router.run(alternatives=offered(**MOVED), health_target="192.0.2.53")["failed"]


def test_rollback_returns_to_an_earlier_generation(running):
    names = [running.instance.running()]
    for port in (53300, 53301):
        names.append(running.run(alternatives=offered(reserved_ports=[port]))["generation"])
    assert running.run(check=True, state="rollback")["generation"] == names[1] and running.instance.running() == names[2]
    result = running.run(state="rollback")
    assert (result["changed"], result["generation"], result["applied"]) == (True, names[1], "reload")
    assert running.instance.running() == names[1] and result["diff"]
    assert running.run(state="rollback", generation=names[2])["generation"] == names[2]
    assert running.run(state="rollback", generation=names[2])["changed"] is False
    assert running.run(state="rollback", generation=names[0])["generation"] == names[0]
    missing = running.run(state="rollback")
    assert missing["msg"] == (f"instance ce: there is no generation before the running one to return to, nothing was changed; "
                              f"there are: {', '.join(names)}")
    assert "there is no generation 0009-00 to return to" in running.run(state="rollback", generation="0009-00")["msg"]


def test_nobody_returns_to_what_was_rolled_back(running):
    first = running.instance.running()
    refused = running.run(alternatives=offered(reserved_ports=[53300]), confirm=False)["generation"]
    rollback.Transaction(running.instance).roll_back("unconfirmed")
    assert running.instance.running() == first
    assert not running.run(alternatives=offered(reserved_ports=[53301]))["failed"]
    assert running.run(state="rollback", generation=refused)["msg"].startswith(f"instance ce: there is no generation {refused} to return to")
    assert running.run(state="rollback")["generation"] == first


def test_a_router_of_before_the_package_is_upgraded_and_rolled_back(router):
    """Its program is loose files, and its units call those."""
    old = loose_files.generation("mapt_napt_namespace")
    first = router.instance.next_name(old)
    router.instance.finish(router.instance.stage(old, first), first)
    rollback.Transaction(router.instance).switch(first)
    router.instance.confirmed.write_text(first + "\n")
    for name, text in loose_files.units().items():
        (router.units / name).write_text(text)
    for action in ("enable", "start"):
        router.command(["systemctl", action, "softwire@ce.service"])

    result = router.run(alternatives=offered())
    assert (result["failed"], result["changed"], result["previous"]) == (False, True, first), result
    assert result["applied"] in ("reload", "restart")
    assert {path.name: path.read_text() for path in router.units.glob("softwire*")} == UNITS
    assert not router.run(alternatives=offered())["changed"]

    result = router.run(state="rollback", confirm=False)
    assert (result["failed"], result["generation"], result["unconfirmed"]) == (False, first, True), result
    watcher, = (call for call in router.calls if call[0] == "systemd-run")
    assert watcher[2:] == [str(router.instance.generations / first), "softwire_rollback.py", "watch", str(router.instance.directory)]
    assert not router.call(False, confirm=first)["failed"] and router.instance.running() == first


def test_a_record_of_a_later_version_is_refused(running):
    running.instance.unconfirmed.write_text('{"format": 2}')
    before = running.tree()
    result = running.run(alternatives=offered(reserved_ports=[53300]))
    assert result["failed"] and result["msg"].startswith(
        f"instance ce: {running.instance.unconfirmed}: format 2, written by a later version of softwire.map")
    assert running.tree() == before


def test_a_full_disk(running, monkeypatch):
    before = running.tree()

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(generations.os, "fsync", full)
    result = running.run(alternatives=offered(reserved_ports=[53300]))
    assert "cannot write the new generation, the old one keeps running: [Errno 28]" in result["msg"]
    monkeypatch.undo()
    assert [path for path in running.tree() if ".staging" not in path] == before


def test_without_systemd(router, monkeypatch):
    monkeypatch.setattr(paths, "SYSTEMD", router.root / "none")
    assert router.run(alternatives=offered())["msg"] == (
        "instance ce: systemd is not running on this machine; it is needed to bring the softwire up at boot")


def test_absent_leaves_nothing(running):
    (running.run_directory / "ce" / "bpf").mkdir()
    result = running.run(state="absent")
    assert result["changed"] and all(entry["after"] == "" for entry in result["diff"]) and result["diff"]
    assert running.actions() == ["disable", "daemon-reload"]
    assert running.tree() == [] and not running.etc.exists() and not running.run_directory.exists()
    again = running.run(state="absent")
    assert (again["changed"], again["diff"], running.actions()) == (False, [], [])


def test_absent_leaves_a_mount_point(running, monkeypatch):
    rmdir = Path.rmdir

    def busy(path):
        if path == running.etc:
            raise OSError(16, "Device or resource busy")
        rmdir(path)

    monkeypatch.setattr(Path, "rmdir", busy)
    result = running.run(state="absent")
    assert (result["failed"], result["changed"]) == (False, True) and not any(running.etc.iterdir()) and running.tree() == []
    assert running.run(state="absent")["changed"] is False


def test_each_name_that_changes_is_synced(router, monkeypatch):
    """Before systemd is told anything; not every file system writes all of its names when one is synced, as ext4 does."""
    unsynced, command = set(), router.command

    def look(except_for=()):
        assert [path for path in unsynced if path.exists() and not {path, *path.parents} & {router.run_directory, *except_for}] == []

    def looked(argv):
        look([router.wants, router.timers])  # systemd's own, while a run goes on
        return command(argv)

    def changes(real, position):
        def done(*arguments, **named):
            real(*arguments, **named)
            changed = Path(arguments[position])
            if not named and not changed.name.startswith(".staging-"):  # nobody misses what is being removed
                unsynced.add(changed.parent)
        return done

    for name, position in {"rename": 1, "unlink": 0, "symlink": 1, "rmdir": 0}.items():
        monkeypatch.setattr(os, name, changes(getattr(os, name), position))
    monkeypatch.setattr(os, "fsync", lambda number: unsynced.discard(Path(os.readlink(f"/proc/self/fd/{number}"))))
    monkeypatch.setattr(router, "command", looked)
    router.exporter.mkdir()
    for parameters in ({"alternatives": offered()}, {"alternatives": offered(**MOVED), "metrics": True, "keep_generations": 1},
                       {"alternatives": offered(**MOVED)}, {"alternatives": offered()}, {"state": "rollback"}, {"state": "absent"}):
        result = router.run(**parameters)
        assert not result["failed"] and result["changed"], result
        look()


def test_absent_in_check_mode(running):
    before = running.tree()
    assert running.run(state="absent", check=True)["changed"]
    assert running.tree() == before and running.actions() == []


def test_absent_keeps_the_unit_for_other_instances(running):
    other = generations.Instance("br")
    other.finish(other.stage({"instance.json": b"{}"}, "0001-aa"), "0001-aa")
    rollback.Transaction(other).switch("0001-aa")
    assert running.run(state="absent")["changed"]
    assert running.unit.exists() and other.running() and not running.instance.directory.exists()
    assert running.run(state="absent")["changed"] is False


def test_absent_that_cannot_be_stopped(running, monkeypatch):
    command = running.command
    monkeypatch.setattr(running, "command", lambda argv: (1, "", "job timed out") if "disable" in argv else command(argv))
    result = running.run(state="absent")
    assert result["msg"] == "instance ce: cannot be stopped, nothing was removed: job timed out"
    assert running.instance.running()


@pytest.fixture
def measured(running):
    """A router that writes metrics."""
    running.exporter.mkdir()
    result = running.run(alternatives=offered(), metrics=True)
    assert (result["failed"], result["changed"], result["applied"]) == (False, True, "nothing"), result
    return running


def test_metrics_restart_nothing(measured):
    assert measured.actions() == ["enable", "start", "enable"]
    assert measured.textfile.exists() and measured.timer
    again = measured.run(alternatives=offered(), metrics=True)
    assert (again["changed"], again["diff"], measured.actions()) == (False, [], [])
    assert measured.run(alternatives=offered(reserved_ports=[53300]), metrics=True)["applied"] == "reload" and measured.textfile.exists()
    assert measured.run(state="rollback")["changed"] and measured.timer


def test_metrics_in_check_mode(running):
    running.exporter.mkdir()
    before = running.tree()
    result = running.run(check=True, alternatives=offered(), metrics=True)
    assert result["changed"] and [(entry["before"], entry["after"]) for entry in result["diff"]] == [("", f"{running.exporter}\n")]
    assert running.tree() == before and running.actions() == []


def test_metrics_that_are_no_longer_wanted_leave_nothing(measured):
    (measured.exporter / ".softwire-ce.prom.new").touch()  # of a run that was killed
    result = measured.run(alternatives=offered())
    assert result["changed"] and [entry["before"] for entry in result["diff"]] == [f"{measured.exporter}\n"]
    assert not measured.timer and not list(measured.exporter.iterdir()) and not (measured.etc / "ce" / "metrics").is_symlink()
    assert measured.run(alternatives=offered())["changed"] is False


def test_absent_takes_the_metrics_along(measured):
    assert measured.run(state="absent")["changed"]
    assert measured.tree() == [] and not measured.timer


def test_metrics_move_to_another_directory(measured):
    other = measured.root / "other"
    other.mkdir()
    assert measured.run(alternatives=offered(), metrics=True, metrics_directory=str(other))["changed"]
    assert not measured.textfile.exists() and (other / "softwire-ce.prom").exists() and measured.timer


def test_a_timer_that_somebody_stopped_is_started(measured):
    measured.timer = False
    assert measured.run(alternatives=offered(), metrics=True)["changed"] and measured.timer


def test_metrics_without_an_exporter(running):
    before = running.tree()
    result = running.run(alternatives=offered(), metrics=True)
    assert result["msg"].startswith(
        f"instance ce: nothing was changed: map_ce_metrics_directory: {running.exporter}: there is no such directory on this router")
    assert running.tree() == before and running.actions() == []


@pytest.mark.parametrize("changes, now", [
    ({}, "the running configuration was not touched"), ({"reserved_ports": [53300]}, "generation {first} runs again")])
def test_metrics_that_cannot_be_written(changes, now, running):
    running.exporter.mkdir()
    running.unwritable = True
    first = running.instance.running()
    result = running.run(alternatives=offered(**changes), metrics=True)
    assert result["msg"] == (f"instance ce: the new generation does not write metrics; {now.format(first=first)}: softwire-metrics@ce.service "
                             "does not start, journalctl -u softwire-metrics@ce.service says why")
    assert running.instance.running() == first and not running.timer and not (running.etc / "ce" / "metrics").is_symlink()
