# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The units as systemd judges them. What programs may do in them is tried in the sandbox, which takes the rights from the units."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from sandbox import UNIT

from ansible_collections.softwire.map.plugins.module_utils.routers import render
from ansible_collections.softwire.map.plugins.module_utils.softwire import paths, rollback

LOGS = paths.LOGS  # before any test puts another one there

# Each gives a unit mounts of its own, so that the network namespaces it makes are nobody else's.
OWN_MOUNTS = ("ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateUsers", "PrivateIPC", "ProtectProc",
              "ProcSubset", "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups", "RootDirectory",
              "ReadOnlyPaths", "ReadWritePaths", "InaccessiblePaths", "BindPaths", "TemporaryFileSystem", "MountFlags", "DynamicUser")


KEEPER = UNIT.with_name("softwire-keep@.service")
LINE = UNIT.with_name("softwire-line@.service")
PROVIDER = UNIT.with_name("softwire-provider@.service")


def settings_of(unit):
    return [tuple(line.split("=", 1)) for line in unit.read_text(encoding="utf-8").splitlines() if "=" in line and not line.startswith("#")]


@pytest.fixture(scope="module")
def settings():
    return settings_of(UNIT)


def analyze(*arguments, unit=UNIT):
    return subprocess.run(["systemd-analyze", *arguments, str(unit)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("unit, most", [(UNIT, 4.0), (KEEPER, 4.0), (LINE, 1.6), (PROVIDER, 1.6), (UNIT.with_name("softwire-metrics@.service"), 2.5)],
                         ids=lambda value: getattr(value, "name", None))
def test_exposure_is_at_most(unit, most):
    judged = analyze("security", "--offline=true", f"--threshold={10 * most:.0f}", "--no-pager", unit=unit)
    assert judged.returncode == 0, judged.stdout.splitlines()[-1] + judged.stderr


@pytest.mark.parametrize("unit", render.UNITS, ids=lambda unit: unit.name)
def test_systemd_knows_every_setting(unit):
    # It also prints that the programs are missing here, and for other units.
    printed = analyze("verify", "--recursive-errors=no", "--man=no", unit=unit).stderr
    assert "Unknown" not in printed and "Failed to parse" not in printed and "ignoring" not in printed.lower()


def test_systemd_knows_every_setting_of_the_service_that_rolls_back(tmp_path):
    unit = tmp_path / "softwire-rollback-ce.service"
    unit.write_text("\n".join(["[Service]", "ExecStart=/bin/true", *rollback.CONFINED]))
    printed = analyze("verify", "--recursive-errors=no", "--man=no", unit=unit).stderr
    assert "Unknown" not in printed and "Failed to parse" not in printed and "ignoring" not in printed.lower()


def test_the_service_that_rolls_back_may_write_where_it_does():
    writable = [value for name, value in (setting.split("=", 1) for setting in rollback.CONFINED) if name == "ReadWritePaths"]
    # Without the second one the service has to start all the same.
    assert writable == [str(paths.CONFIGURATION), f"-{LOGS}"]


@pytest.mark.parametrize("unit", [UNIT, KEEPER], ids=lambda unit: unit.name)
def test_no_mounts_of_its_own(unit):
    assert not {name for name, _value in settings_of(unit)} & set(OWN_MOUNTS)


def test_the_watcher_of_a_line_has_one_right():
    given = dict(settings_of(LINE))
    assert given["CapabilityBoundingSet"] == given["AmbientCapabilities"] == "CAP_NET_RAW" and given["DynamicUser"] == "yes"
    assert not [name for name, value in settings_of(LINE) if name.startswith("Exec") and value[0] in "+!-"]


def test_the_client_of_a_provider_has_no_right_and_writes_for_root_alone():
    given = dict(settings_of(PROVIDER))
    assert given["CapabilityBoundingSet"] == "" and "AmbientCapabilities" not in given and given["DynamicUser"] == "yes"
    assert given["RuntimeDirectoryMode"] == given["StateDirectoryMode"] == "0700"
    assert not [name for name, value in settings_of(PROVIDER) if name.startswith("Exec") and value[0] in "+!-"]


def test_only_modules_are_loaded_with_full_privileges(settings):
    commands = [(name, value) for name, value in settings if name.startswith("Exec")]
    assert [value for _name, value in commands if value.startswith("+")] == [
        "+/usr/bin/python3 -B -m softwire modules"]
    actions = [re.search(r"-m softwire (\w+)", value)[1] for _name, value in commands]
    assert actions == ["ready", "boot", "modules", "up", "reload", "down"]


def test_what_is_open_has_been_thought_about():
    """A newer systemd that judges more, or a setting that gets lost, shows here by name."""
    judged = json.loads(analyze("security", "--offline=true", "--json=short").stdout)
    is_open = {entry["name"].split("=")[0] for entry in judged if entry["exposure"]}
    assert is_open <= {
        "SystemCallFilter", "RootDirectory", "User", "CapabilityBoundingSet", "RestrictNamespaces", "RestrictAddressFamilies", "DeviceAllow",
        "IPAddressDeny", "PrivateNetwork", *OWN_MOUNTS,
    }
