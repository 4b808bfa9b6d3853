# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin: its arguments and error texts, the way of missing packages, and one real play."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import role_variables
import pytest
import yaml
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.utils.display import Display

from ansible_collections.softwire.map.plugins.action import deploy
from ansible_collections.softwire.map.plugins.module_utils.routers import render
from ansible_collections.softwire.map.plugins.module_utils.softwire import generations, units

REPOSITORY = Path(__file__).resolve().parents[3]
CE = {"instance": "ce", "customer_edge": role_variables.ce()}
CONNECTION = mock.Mock(transport="ssh")
DEFAULTS = {"generation": "", "confirm_timeout": 60, "health_target": "", "keep_generations": 5, "install_packages": True,
            "metrics": False, "metrics_directory": "/var/lib/prometheus/node-exporter"}
BY = {"controller": socket.gethostname(), "user": getpass.getuser()}
DEPLOYED = {"changed": True, "generation": "0001-aa"}
INSTALLED = {"changed": True}


def wanted(*packages):
    return {"changed": True, "missing_packages": list(packages)}


def run(args, *answers, check=False, contact=None, diff=True):
    """Runs the plugin; the modules that it executes give these answers. Returns (result, [(module, arguments)]).

    contact: what the first connection raises.
    """
    task = mock.Mock(args=args, check_mode=check, diff=diff, async_val=0)
    plugin = deploy.ActionModule(task, CONNECTION, mock.Mock(), mock.Mock(), mock.Mock(), mock.Mock())
    plugin._load_name = "softwire.map.deploy"  # as Ansible's loader does, for ansible-core 2.18
    with mock.patch.object(deploy.ActionModule, "_execute_module", side_effect=list(answers)) as execute, \
            mock.patch.object(deploy.ActionModule, "_low_level_execute_command", side_effect=contact):
        try:
            result = plugin.run(None, {})
        except AnsibleActionFail as exc:
            result = exc
        return result, [(call.kwargs["module_name"], call.kwargs["module_args"]) for call in execute.call_args_list]


def test_one_module_call_brings_everything():
    result, calls = run(CE, DEPLOYED)
    assert result == DEPLOYED
    (name, arguments), = calls
    assert name == "softwire.map.deploy"
    assert set(arguments) == {"instance", "state", "_from_controller", *DEFAULTS}
    assert (arguments["instance"], arguments["state"], arguments["install_packages"]) == ("ce", "present", True)
    sent = json.loads(arguments["_from_controller"])
    assert sent["by"] == BY
    assert sent["units"] == {path.name: path.read_text() for path in render.UNITS}
    assert set(sent["units"]) == set(units.NAMES)
    assert [entry["name"] for entry in sent["alternatives"]] == ["bpf", "jool_mapt", "jool_siit"]
    files = sent["alternatives"][2]["files"]
    assert files == generations.encoded(role_variables.ce_generations()["jool_siit"])


def test_a_border_relay():
    arguments = {"instance": "br", "border_relay": role_variables.br()}
    _result, ((_name, arguments),) = run(arguments, DEPLOYED)
    assert set(json.loads(arguments["_from_controller"])["alternatives"][0]["files"]["main/translate.bpf.o"]) == {"base64"}


@pytest.mark.parametrize("arguments", [
    {"instance": "ce", "customer_edge": role_variables.ce(
        domain={**role_variables.MAPE_CASES["shared"]["domain"], "br_address": "2001:db8::1"}, end_user_prefix="2001:db8:12:3400::/56",
        lan_addresses=["192.168.0.1/24"])},
    {"instance": "br", "border_relay": role_variables.br(
        domains=[{**role_variables.MAPE_CASES["shared"]["domain"], "br_address": "2001:db8::1"}])},
], ids=["map_ce", "map_br"])
def test_what_is_odd_is_a_warning(arguments):
    with mock.patch.object(Display, "warning") as warning:
        result, _calls = run(arguments, DEPLOYED)
    assert result == DEPLOYED
    (text,), _named = warning.call_args
    assert "br_address: '2001:db8::1': lies in 2001:db8::/40 of map_" in text


def test_absent_needs_no_variables():
    result, calls = run({"instance": "ce", "state": "absent"}, DEPLOYED)
    assert result == DEPLOYED
    assert calls == [("softwire.map.deploy", {"instance": "ce", "state": "absent", **DEFAULTS, "_from_controller": json.dumps({"by": BY})})]


def test_rollback_needs_no_variables():
    _result, calls = run({"instance": "ce", "state": "rollback", "generation": "0001-aa"}, DEPLOYED)
    assert calls == [("softwire.map.deploy", {
        "instance": "ce", "state": "rollback", **DEFAULTS, "generation": "0001-aa", "_from_controller": json.dumps({"by": BY})})]


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found: 4711"), OSError("No username set in the environment")])
def test_a_user_without_a_name_is_a_number(error, monkeypatch):
    monkeypatch.setattr(getpass, "getuser", mock.Mock(side_effect=error))
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert json.loads(deploy.sent()) == {"by": {**BY, "user": "4711"}}


CHANGED = {"changed": True, "generation": "0002-bb", "previous": "0001-aa", "unconfirmed": True}


def test_a_change_is_confirmed_over_a_new_connection():
    CONNECTION.reset_mock()
    result, calls = run({"customer_edge": role_variables.ce(keep_generations=3, instance="ce")}, CHANGED, {"changed": False})
    assert result == dict(CHANGED, unconfirmed=False)
    assert calls[1] == ("softwire.map.deploy", {
        "instance": "ce", "keep_generations": 3, "_from_controller": json.dumps({"confirm": "0002-bb", "by": BY})})
    CONNECTION.reset.assert_called_once_with()


@pytest.mark.parametrize("diff", [True, False])
def test_a_difference_that_nobody_asked_for_is_not_kept(diff):
    result, _calls = run(CE, {"changed": True, "diff": [{"before": "a"}]}, diff=diff)
    assert ("diff" in result) is diff


def test_nothing_is_confirmed_where_nothing_waits():
    for answer in (DEPLOYED, {"failed": True, "unconfirmed": True}):
        assert run(CE, answer)[0] == answer


def test_a_router_that_answers_again_is_confirmed(monkeypatch):
    pauses = []
    monkeypatch.setattr(deploy.time, "sleep", pauses.append)
    gone = AnsibleConnectionFailure("no route to host")
    result, calls = run(CE, CHANGED, gone, gone, {"changed": False})
    assert result["unconfirmed"] is False and len(calls) == 4 and len(pauses) == 2


def test_a_router_that_does_not_answer_returns_by_itself(monkeypatch):
    clock = iter(range(0, 1000, 25))
    monkeypatch.setattr(deploy.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(deploy.time, "monotonic", lambda: next(clock))
    result, calls = run(CE, CHANGED, *[AnsibleConnectionFailure("no route to host")] * 9)
    assert str(result) == ("generation 0002-bb could not be confirmed by a new connection, so the router returns to 0001-aa by itself: "
                           "no route to host")
    assert len(calls) == 4  # 60 s


def test_a_confirmation_that_comes_too_late():
    result, _calls = run(CE, CHANGED, {"failed": True, "msg": "generation 0002-bb is not waiting", "now": "nothing runs"})
    assert result.result["now"] == "nothing runs"
    assert str(result) == "the change was rolled back, it was not confirmed in time: generation 0002-bb is not waiting"


@pytest.mark.parametrize("arguments, said", [
    ({}, "instance: not set: is required"),
    ({"instance": "ce"}, "one of customer_edge and border_relay is required with state present"),
    ({**CE, "border_relay": {}}, "parameters are mutually exclusive: customer_edge|border_relay"),
    ({**CE, "state": "gone"}, "value of state must be one of: present, absent, rollback"),
    ({"customer_edge": role_variables.ce(confirm_timeout=5)}, "map_ce_confirm_timeout: 5: must be an integer between 10 and 3600"),
    ({"instance": "ce", "state": "absent", "confirm_timeout": 5}, "confirm_timeout: 5: must be an integer between 10 and 3600"),
    ({"customer_edge": role_variables.ce(metrics_directory="prometheus")}, "map_ce_metrics_directory: 'prometheus': must be an absolute path"),
    ({"border_relay": role_variables.br(keep_generations=1)}, "map_br_keep_generations: 1: must be an integer between 2 and 100"),
    ({**CE, "extra": 1}, "extra"),
    ({"customer_edge": role_variables.ce(instance="Home")}, "map_ce_instance: 'Home': must be at most 10 characters"),
    ({"instance": "../x", "state": "absent"}, "instance: '../x': must be at most 10 characters"),
    ({"customer_edge": role_variables.ce(state="gone")}, "map_ce_state: 'gone': must be one of present, absent (nothing was changed)"),
    ({"customer_edge": role_variables.ce(prot_forwards=[])},
     "map_ce_prot_forwards: unknown, did you mean map_ce_port_forwards? (nothing was changed)"),
    ({"customer_edge": role_variables.ce(wan_mtu=0, route_table="x", prot_forwards=[], reserved_ports=[1])},
     "4 faults:\n- map_ce_wan_mtu: 0: must be an integer between 1280 and 65535\n- map_ce_reserved_ports[0]: 1: is not in"),
    ({"border_relay": role_variables.br(bpf_objekt="", ipv6_mtu=0)}, "2 faults:\n- map_br_ipv6_mtu: 0: must be"),
    ({**CE, "customer_edge": role_variables.ce(wan_mtu=0)},
     "map_ce_wan_mtu: 0: must be an integer between 1280 and 65535 (nothing was changed)"),
    ({"instance": "br", "border_relay": role_variables.br(domains=[])},
     "map_br_domains: []: is required; set it in the inventory (nothing was changed)"),
])
def test_errors_on_the_controller_touch_no_router(arguments, said):
    result, calls = run(arguments)
    assert said in str(result) and calls == []


@pytest.mark.parametrize("transport, works, warned", [("local", [], True), ("local", ["ping to 192.0.2.53"], False), ("ssh", [], False)])
def test_a_router_that_deploys_itself_should_see_something_work(transport, works, warned, monkeypatch):
    said = []
    monkeypatch.setattr(deploy, "warn", said.append)
    monkeypatch.setattr(CONNECTION, "transport", transport)
    result, calls = run(CE, {**DEPLOYED, "previous": "", "unconfirmed": True, "works": works}, {"changed": False})
    assert len(calls) == 2 and result["unconfirmed"] is False
    assert [text.startswith("map_ce_health_target: not set: ") for text in said] == [True] * warned


GONE = AnsibleConnectionFailure("gone")


@pytest.mark.parametrize("arguments, answers, now", [
    (CE, [GONE], "a change is not confirmed, so the router rolls it back within 60 s"),
    ({"instance": "ce", "state": "rollback", "confirm_timeout": 30}, [GONE], "a change is not confirmed, so the router rolls it back within 30 s"),
    ({"instance": "ce", "state": "absent"}, [GONE], "whether the instance is down is not known, another run tells"),
    (CE, [wanted("nftables"), GONE], "packages may be installed, the running configuration was not touched"),
])
def test_a_router_that_is_lost_in_the_middle_has_failed(arguments, answers, now):
    result, _calls = run(arguments, *answers)
    assert str(result) == f"the connection broke after the deployment had begun; {now}: gone"
    assert (result.result["lost"], result.result["now"]) == (True, now)


def test_a_router_that_was_off_is_unreachable():
    with pytest.raises(AnsibleConnectionFailure, match="^off$"):
        run(CE, contact=AnsibleConnectionFailure("off"))


def test_in_check_mode_a_router_that_is_lost_is_unreachable():
    with pytest.raises(AnsibleConnectionFailure, match="^gone$"):
        run(CE, GONE, check=True)


def test_missing_packages_are_installed_and_the_module_called_again():
    result, calls = run(CE, wanted("jool-dkms", "nftables"), INSTALLED, {"changed": False, "generation": "0001-aa"})
    assert result == {"changed": True, "generation": "0001-aa"}
    assert [name for name, _arguments in calls] == ["softwire.map.deploy", "ansible.builtin.apt", "softwire.map.deploy"]
    assert calls[0] == calls[2]
    assert calls[1][1] == {"name": ["jool-dkms", "nftables"], "state": "present", "install_recommends": False,
                           "update_cache": True, "cache_valid_time": 3600}


def test_in_check_mode_packages_are_looked_up_only():
    result, calls = run(CE, wanted("nftables"), INSTALLED, check=True)
    assert result == wanted("nftables")
    assert [name for name, _arguments in calls] == ["softwire.map.deploy", "ansible.builtin.apt"]


def test_check_mode_goes_on_where_apt_cannot_tell():
    with mock.patch.object(deploy.Display, "warning") as warning:
        result, calls = run(CE, wanted("nftables"), {"failed": True, "msg": "python3-apt must be installed"}, check=True)
    assert result == wanted("nftables") and len(calls) == 2
    (said,), _options = warning.call_args
    assert "packages nftables are needed; apt cannot tell" in said and "python3-apt must be installed" in said


HEADERS_HINT, DKMS_HINT = "boot a kernel that the distribution still has headers for", "/var/lib/dkms/jool*/*/build/make.log"


@pytest.mark.parametrize("said, hint, other", [
    ("no available installation candidate for linux-headers-6.1.0-18-amd64", HEADERS_HINT, DKMS_HINT),
    ("apt-get failed: E: Sub-process /usr/bin/dpkg returned an error code (1)\n", DKMS_HINT, HEADERS_HINT),
])
def test_packages_that_cannot_be_installed(said, hint, other):
    result, calls = run(CE, wanted("jool-dkms", "linux-headers-6.1.0-18-amd64"), {"failed": True, "msg": said})
    assert len(calls) == 2
    begin = "packages jool-dkms, linux-headers-6.1.0-18-amd64 cannot be installed; the running configuration was not touched: "
    assert str(result).startswith(begin + said.strip() + "; ")
    assert hint in str(result) and other not in str(result)


def test_packages_that_do_not_bring_what_they_should():
    result, calls = run(CE, wanted("jool-dkms"), INSTALLED, wanted("jool-dkms"))
    assert len(calls) == 3
    assert "packages jool-dkms are installed but what they bring is not there" in str(result)
    assert "make.log" in str(result)


def test_a_module_that_fails_is_the_result():
    failed = {"failed": True, "msg": "instance ce: nothing was changed: kernel 4.19"}
    assert run(CE, failed) == (failed, mock.ANY)
    assert run(CE, wanted("nftables"), INSTALLED, failed)[0] == dict(failed, changed=True)


def play(tmp_path, **variables):
    """The role map_ce in check mode on this machine, as text."""
    tasks = [{"ansible.builtin.include_role": {"name": "softwire.map.map_ce"}}]
    values = {f"map_ce_{name}": value for name, value in role_variables.ce(**variables).items()}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([
        {"hosts": "localhost", "gather_facts": False, "vars": {**values, "ansible_become": False}, "tasks": tasks}]))
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"), "ANSIBLE_HOME": str(tmp_path),
                   "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-c", "local", "--check",
         "-e", f"ansible_python_interpreter={sys.executable}", str(tmp_path / "play.yml")],
        env=environment, capture_output=True, text=True, check=False)


def test_a_real_play_reaches_the_module(tmp_path):
    done = play(tmp_path)
    said = "instance ce: nothing was changed: " if os.path.isdir("/run/systemd/system") else "instance ce: systemd is not running on this machine"
    assert done.returncode == 2 and said in done.stdout, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_real_play_with_a_wrong_variable(tmp_path):
    done = play(tmp_path, end_user_prefix="2001:db9::/64")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "map_ce_end_user_prefix: '2001:db9::/64': is outside every rule" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("variables, said", [
    ({"prot_forwards": []}, ["map_ce_prot_forwards: unknown, did you mean map_ce_port_forwards? (nothing was changed)"]),
    ({"end_user_prefix": "{{ site_prefix }}"}, ["'site_prefix' is undefined"]),
    ({"end_user_prefix": ""}, ["map_ce_end_user_prefix: '': is required; set it in the inventory (nothing was changed)"]),
    # Of Ansible's own, by the role's argument_specs
    ({"state": "gone"}, ["value of map_ce_state must be one of: present, absent, got: gone"]),
    ({"wan_mtu": 0, "lan_interfaces": []}, ["2 faults:", "map_ce_wan_mtu: 0: must be", "map_ce_lan_interfaces: []: is required"]),
])
def test_what_a_real_play_says_of_wrong_variables(tmp_path, variables, said):
    done = play(tmp_path, **variables)
    assert done.returncode == 2 and "Traceback" not in done.stdout + done.stderr
    (message,) = re.findall(r'fatal: .*"msg": "((?:[^"\\]|\\.)*)"', done.stdout)
    for sentence in said:
        assert message.count(sentence) == 1, message


def test_a_play_takes_an_instance_down_whatever_its_other_variables_are(tmp_path):
    done = play(tmp_path, state="absent", end_user_prefix="", wan_mtu=0, prot_forwards=[])
    assert done.returncode == 0 and "ok=" in done.stdout, done.stdout + done.stderr
