# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packages that run without Ansible: Python 3.8, the standard library, and each knows only what stands below it."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import role_variables
import pytest
from ansible_collections.softwire.map.plugins.module_utils.mapping import calculator, isp

PACKAGES = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"
# What a package may import beside the standard library, and the packages that it may know.
MAY = {"mapping": ((), ()), "routers": (("jinja2",), ("mapping",)), "softwire": ((), ()),
       "provider": ((), ("mapping", "softwire"))}
# The command line, whose subpackage `mapping` is that one; PyYAML where there is one.
CLI = PACKAGES.parents[1] / "cli"
MAY_CLI = {"cli": (("yaml",), ("mapping",))}


def imports(path):
    """(name of a package of ours or "", module) of each import of a file, relative ones by the package that they lead to."""
    for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 8))):
        if isinstance(node, ast.Import):
            yield from (("", alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield "", node.module.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            yield (path.parent.name if node.level == 1 else (node.module or "").partition(".")[0]), ""


def test_there_are_no_other_packages():
    assert {path.name for path in PACKAGES.iterdir() if path.name != "__pycache__"} == set(MAY)


@pytest.mark.parametrize("path", sorted([*PACKAGES.rglob("*.py"), *CLI.rglob("*.py")]), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_imports_what_its_package_may(path):
    libraries, packages = {**MAY, **MAY_CLI}[path.parent.name]
    allowed = {("", name) for name in (*sys.stdlib_module_names, *libraries)} | {(name, "") for name in (path.parent.name, *packages)}
    assert set(imports(path)) <= allowed


ON_A_ROUTER = """
import json, sys
from module_utils.mapping import calculator, dhcpv6, hb46pp_exchange, isp, rule_sources
from module_utils.routers import deployment

prefix = "2400:4050:1234:5600::/56"
domain = isp.isp_domain("ocn", prefix)
option = dhcpv6.options({**domain, "interface_id": "rfc7597"})[0]["option"]
try:
    calculator.ce(domain, "2001:db8::/56")
except ValueError as exc:
    refused = str(exc)
(rule,) = domain["rules"]
names = {"ipv6": "ipv6_prefix", "ipv4": "ipv4_prefix", "ea_length": "ea_length", "psid_offset": "psid_offset"}
answer = {"order": ["map_e"], "map_e": {"br": domain["br_address"][0], "rules": [{key: rule[name] for key, name in names.items()}]}}
server = hb46pp_exchange.server_of(["v=v6mig-1 url=https://vne.example.jp/ t=b"])
reply = hb46pp_exchange.reply_of(server, 200, None, json.dumps(answer).encode())
edge = json.load(sys.stdin)
made = deployment.read({"customer_edge": {**edge, "isp": "ocn", "end_user_prefix": prefix}})
json.dump({
    "ce": calculator.ce(domain, prefix), "decoded": rule_sources.domain_of(option), "refused": refused,
    "provisioned": reply.answer.choices[0].domain,
    "files": made.alternatives, "loaded": sorted(name for name in sys.modules if name.startswith(("ansible", "netaddr", "yaml"))),
}, sys.stdout, default=bytes.hex)
"""


DEPLOYED_THERE = """
import json, subprocess, sys
from pathlib import Path
from types import SimpleNamespace
from module_utils.routers import deployment
from module_utils.softwire import audit, commands, deploying, generations, paths, preflight

root = Path.cwd()
for name in ("CONFIGURATION", "RUN", "LOGS", "UNITS", "SYSTEMD"):
    setattr(paths, name, root / name)
paths.UNITS.mkdir()
paths.SYSTEMD.mkdir()
# It has everything but a service that is at work, and one of the interfaces.
yes, no, link = (lambda *_words: True), (lambda *_words: False), {"mtu": 1500, "flags": ["UP"], "addr_info": []}
commands.finished = lambda argv, *_arguments, **_named: subprocess.CompletedProcess(argv, int(argv[0] == "systemctl"), "", "")
preflight.Machine = lambda: SimpleNamespace(
    release={"ID": "debian", "VERSION_ID": "12"}, kernel="6.1.0", links=dict.fromkeys(links, link), has_command=yes, has_module=yes,
    has_bpf=yes, has_namespace=no, secure_boot=no, headers_installed=yes, headers_of_next=list)
edge, links = json.load(sys.stdin), ["isp", "lan"]
made = deployment.read({"customer_edge": edge})
wanted = deploying.Wanted(
    alternatives=[(name, generations.decoded(generations.encoded(files))) for name, files in made.alternatives], by=audit.who({}),
    metrics_directory=None, **{name: getattr(made, name) for name in (
        "instance", "state", "confirm_timeout", "health_target", "keep_generations", "install_packages")})
result = deploying.Deployment(wanted, sys.exit, check=True).run()
links.remove("isp")
try:
    deploying.Deployment(wanted, sys.exit, check=True).run()
except deploying.DeploymentError as exc:
    refused = exc.fields
json.dump({
    "result": result, "refused": refused, "left": sorted(str(path) for path in root.rglob("*") if path not in (paths.UNITS, paths.SYSTEMD)),
    "loaded": sorted(name for name in sys.modules if name.startswith(("ansible", "netaddr", "yaml"))),
}, sys.stdout)
"""


@pytest.fixture
def on_a_router(tmp_path):
    """What a script says, as JSON, from a copy of the packages outside Ansible's tree, and a Python that has Jinja2 and no other library."""
    library, home = tmp_path / "library", tmp_path / "home"
    shutil.copytree(PACKAGES, library / "module_utils", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("jinja2", "markupsafe"):
        shutil.copytree(Path(importlib.util.find_spec(name).origin).parent, library / name)
    home.mkdir()

    def said(script, given):
        done = subprocess.run(
            [sys.executable, "-ISBc", f"import sys; sys.path.insert(0, {str(library)!r})\n{script}"],
            input=json.dumps(given), capture_output=True, text=True, check=False, cwd=home, env={})
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["loaded"] == []
        return found
    return said


@pytest.mark.parametrize("napt_namespace", ["", "napt"])
def test_a_customer_edge_is_computed_and_rendered_on_a_router(on_a_router, napt_namespace):
    variables = {key: value for key, value in role_variables.ce(napt_namespace=napt_namespace).items() if key not in ("domain", "end_user_prefix")}
    variables["lan_addresses"] = ["192.168.1.1/24"]
    said = on_a_router(ON_A_ROUTER, variables)
    prefix = "2400:4050:1234:5600::/56"
    assert said["ce"] == calculator.ce(isp.isp_domain("ocn", prefix), prefix) and said["ce"]["ipv4_address"] == "153.240.72.209"
    assert said["decoded"]["rules"] == isp.isp_domain("ocn", prefix)["rules"]
    assert said["provisioned"] == isp.isp_domain("ocn", prefix)
    assert said["refused"].startswith("end_user_prefix: '2001:db8::/56': is outside every rule")
    here = role_variables.ce_generations(
        isp="ocn", domain=None, end_user_prefix=prefix, lan_addresses=["192.168.1.1/24"], napt_namespace=napt_namespace)
    assert dict(said["files"]) == json.loads(json.dumps(here, default=bytes.hex))


def test_a_router_deploys_what_it_has_rendered(on_a_router):
    said = on_a_router(DEPLOYED_THERE, role_variables.ce(translator="jool_siit"))
    assert (said["result"]["changed"], said["result"]["alternative"], said["result"]["applied"]) == (True, "jool_siit", "nothing")
    assert any(entry["after_header"].endswith("/CONFIGURATION/ce/current/napt/napt.nft") for entry in said["result"]["diff"])
    fault, = said["refused"]["faults"]
    assert fault.startswith("map_ce_wan_interface: isp: this router has no such network interface") and said["left"] == []
