# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A deployment that a program on the router itself asks for, on a pretended one; what the module deploy does with it: tests/unit/modules."""

from __future__ import annotations

import tempfile

import pytest
from pretended_router import MOVED, UNITS, Router, offered

from ansible_collections.softwire.map.plugins.module_utils.softwire import deploying, generations, metrics_timer, rollback, units


@pytest.fixture
def router(tmp_path, monkeypatch):
    """A router to which a controller has deployed a generation, and metrics."""
    made = Router(tmp_path)
    made.pretend(monkeypatch)
    made.exporter.mkdir()
    assert not made.run(alternatives=offered(), metrics=True)["failed"]
    made.calls = []
    return made


def deployment(router, check=False, **wanted):
    """What a program asks for that has made new files, and leaves everything else as it is."""
    settings = {
        "instance": "ce", "state": "present", "confirm_timeout": 60, "health_target": "", "keep_generations": 5, "install_packages": False,
        "metrics_directory": metrics_timer.Metrics(router.instance).directory(), "units": units.installed(), "alternatives": files(), **wanted}
    return deploying.Deployment(deploying.Wanted(**settings), router.warnings.append, check)


def files(**changes):
    return [(alternative["name"], generations.decoded(alternative["files"])) for alternative in offered(**changes)]


def test_a_program_on_the_router_deploys_and_confirms(router):
    first = router.instance.running()
    asked = deployment(router, alternatives=files(**MOVED))
    result = asked.run()
    name = result["generation"]
    assert {key: value for key, value in result.items() if key != "diff"} == {
        "changed": True, "generation": name, "alternative": "jool_siit", "applied": "restart", "drift": [], "previous": first,
        "unconfirmed": True, "works": []}
    assert router.watched and rollback.Transaction(router.instance).record()["generation"] == name
    assert asked.confirm(name) == {"changed": False, "generation": name}
    assert rollback.Transaction(router.instance).record() is None and router.instance.running() == name
    assert router.actions() == ["reset-failed", "restart", "enable"] and not router.warnings
    assert {path.name: path.read_text() for path in router.units.glob("softwire*")} == UNITS and router.timer and router.textfile.exists()
    assert [(line["event"], "by" in line) for line in router.trail()[-2:]] == [("deploy", False), ("confirm", False)]


def test_the_same_files_change_nothing(router):
    before = router.tree()
    result = deployment(router).run()
    assert (result["changed"], result["applied"], result["diff"]) == (False, "nothing", [])
    assert router.tree() == before and router.actions() == []


def test_a_deployment_goes_back_and_says_what_runs(router):
    first = router.instance.running()
    router.faults = ["link ce-tun (namespace main): missing"]
    with pytest.raises(deploying.DeploymentError) as raised:
        deployment(router, alternatives=files(**MOVED)).run()
    now = f"generation {first} runs again"
    assert str(raised.value) == f"instance ce: the new generation does not restart; {now}: {router.faults[0]}"
    assert raised.value.fields["now"] == now and set(raised.value.fields) == {"now", "diff"} and router.instance.running() == first


def test_what_the_router_has_against_it(router):
    router.missing |= {"nft"}
    with pytest.raises(deploying.DeploymentError) as raised:
        deployment(router, alternatives=files(**MOVED)).run()
    assert raised.value.fields == {"faults": ["missing packages: nftables; install them, or let the role do it (install_packages)"]}
    assert str(raised.value) == f"instance ce: nothing was changed: {raised.value.fields['faults'][0]}"


def test_an_error_of_the_router_is_one_of_the_deployment(router, monkeypatch):
    monkeypatch.setattr(deploying, "PATIENCE", 0.01)
    monkeypatch.setattr(rollback, "POLL", 0.01)
    asked = deployment(router)
    for action in (asked.run, lambda: asked.confirm("0001-aa")):
        with rollback.locked(), pytest.raises(deploying.DeploymentError, match="^instance ce: another deployment is at work on this router$"):
            action()
    assert [line["event"] for line in router.trail()[-2:]] == ["failure"] * 2


@pytest.mark.parametrize("refused", [False, True])
def test_check_mode_leaves_no_file_anywhere(refused, router, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before, router.nft_refuses = router.tree(), refused
    asked = deployment(router, check=True, alternatives=files(**MOVED))
    if refused:
        with pytest.raises(deploying.DeploymentError, match="nft refuses main/guard.nft, nothing was changed: what went wrong"):
            asked.run()
    else:
        assert asked.run()["changed"]
    assert all(argv[-1].startswith(f"{scratch}/") for argv in router.calls if argv[0] == "nft")
    assert any(argv[0] == "nft" for argv in router.calls) and router.tree() == before and not list(scratch.iterdir()) and router.actions() == []
