# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""softwire-map: it answers as the filters do, for people as well, and refuses in one line. tests/install tries the built package."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import questions
import yaml
from ansible_collections.softwire.map.plugins.module_utils.mapping import isp
from ansible_collections.softwire.map.plugins.module_utils.mapping.domain import parse_domain
from softwire_map import command, text

HELPERS = Path(__file__).resolve().parents[2] / "helpers"
REPOSITORY = HELPERS.parents[1]
RULE = {"ipv6_prefix": "2001:db8::/40", "ipv4_prefix": "192.0.2.0/24", "ea_length": 16}
DOMAIN = {"transport": "map-e", "br_address": "2001:db8:ffff::1", "rules": [RULE]}
OPTION = "005e002d00590015001018c00002002820010db800005d000406000000005a001020010db8ffff00000000000000000001"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A directory to stand in, with some files of domains."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "domain.json").write_text(json.dumps(DOMAIN))
    (tmp_path / "domain.yml").write_text(yaml.safe_dump({"map_domain": DOMAIN, "map_ce_wan_interface": "eth0"}))
    (tmp_path / "odd.json").write_text(json.dumps({**DOMAIN, "br_address": "2001:db8::1"}))
    (tmp_path / "faults.yml").write_text(yaml.safe_dump({"map_domain": {**DOMAIN, "rules": [{**RULE, "ea_length": 60, "psid_ofset": 6}]}}))
    return tmp_path


def program(*arguments, python=(), stdin="", code=0):
    """(standard output, lines of standard error) of a process of the calculator; code: what it has to exit with; python: options of Python."""
    start = f"import sys; sys.path.insert(0, {str(HELPERS)!r}); from softwire_map.command import main; main()"
    done = subprocess.run([sys.executable, *python, "-c", start, *arguments], input=stdin, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr and done.returncode == code, done.stderr
    return done.stdout, done.stderr.splitlines()


def test_json_is_what_the_filters_give(tmp_path, capsys):
    asked = questions.asked(tmp_path)
    assert len(asked) > 5 * len(questions.VECTORS)
    for name, arguments, answers in asked:
        code = command.run([*arguments, "--json"])
        said = capsys.readouterr()
        assert [json.loads(line) for line in said.out.splitlines()] == answers, name
        assert code == (1 if None in answers else 0), name
        # What is odd in a vector is told, and nothing else.
        assert all(line.startswith("softwire-map: warning: ") for line in said.err.splitlines()), name


@pytest.mark.parametrize("source", [["-d", "domain.json"], ["--domain", "domain.yml"], ["--option", OPTION], ["-d", "-"]])
def test_a_domain_comes_from_json_yaml_an_option_or_standard_input(home, source):
    said, faults = program("owner", *source, "192.0.2.18:1232", stdin=json.dumps(DOMAIN) if source[-1] == "-" else "")
    assert (said, faults) == ("192.0.2.18:1232  2001:db8:12:3400::/56\n", [])


def test_yaml_in_standard_input(home):
    said, faults = program("ports", "52", "8", "--psid-offset", "1")
    assert (said, faults) == (f"{0x8000 + (52 << 7)}-39551\n", [])
    assert program("ce", "-d", "-", "2001:db8:12:3400::/56", stdin=(home / "domain.yml").read_text())[0].count("1232-1235")


def test_a_list_of_addresses_and_ports(home):
    said, faults = program("owner", "-d", "domain.json", stdin="192.0.2.18:1232\n\n 192.0.2.18:1236 \r\n198.51.100.1:1232\n", code=1)
    assert said.splitlines() == ["192.0.2.18:1232  2001:db8:12:3400::/56", "192.0.2.18:1236  2001:db8:12:3500::/56", "198.51.100.1:1232  nobody"]
    assert faults == []
    assert program("owner", "-d", "domain.json", stdin="\n") == ("", [])


def test_all_customer_edges_of_a_domain_a_rule_or_an_address(home, capsys):
    def prefixes(*arguments):
        assert command.run(["ces", "-d", "domain.json", *arguments]) == 0
        header, *rows = capsys.readouterr().out.splitlines()
        assert header.split() == ["end_user_prefix", "ipv4", "psid", "port_count", "map_address"]
        return [row.split()[0] for row in rows]

    shared = prefixes("192.0.2.18")
    assert shared == [f"2001:db8:12:{psid << 8:x}::/56".replace(":0:", ":") for psid in range(256)]
    assert prefixes("192.0.2.18/31") == [*shared, *prefixes("192.0.2.19")]
    assert prefixes("2001:db8:12:3400::/56") == prefixes("2001:db8:12:3412::/64") == [shared[0x34]]
    small = {**RULE, "ipv6_prefix": "2001:db8:12::/48", "ipv4_prefix": "192.0.2.18/32", "ea_length": 8}
    other = {**RULE, "ipv6_prefix": "2001:db9::/60", "ipv4_prefix": "198.51.100.0/30", "ea_length": 2}
    (home / "domain.json").write_text(json.dumps({**DOMAIN, "rules": [small, other]}))
    assert prefixes("2001:db8:12::/48") == shared
    assert prefixes() == [*shared, *prefixes("198.51.100.0/24")] and len(prefixes()) == 256 + 4


@pytest.mark.parametrize(("what", "line"), [
    ({}, "2001:db8:12:3400::/56     192.0.2.18          52     252         2001:db8:12:3400:0:c000:212:34"),
    ({"ea_length": 8}, "2001:db8:12::/48          192.0.2.18          -      65536       2001:db8:12::c000:212:0"),
    ({"ea_length": 4}, "2001:db8:10::/44          192.0.2.16/28       -      65536       2001:db8:10::c000:210:0"),
])
def test_a_row_for_people(home, capsys, what, line):
    (home / "domain.json").write_text(json.dumps({**DOMAIN, "rules": [{**RULE, **what}]}))
    assert command.run(["ces", "-d", "domain.json", "2001:db8:12:3400::/56"]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == [line]


def test_a_customer_edge_for_people(home, capsys):
    cases = [
        ({}, ["psid             52", "ipv4_address     192.0.2.18", "port_ranges      1232-1235 2256-2259 ... 64720-64723"], "ipv4_prefix"),
        ({"ea_length": 4}, ["ipv4_prefix      192.0.2.16/28", "port_ranges      0-65535"], "ipv4_address"),
        ({"psid_offset": 2}, ["port_ranges      19712-19775 36096-36159 52480-52543"], "..."),
    ]
    for rule, has, has_not in cases:
        (home / "domain.json").write_text(json.dumps({**DOMAIN, "rules": [{**RULE, **rule}]}))
        assert command.run(["ce", "-d", "domain.json", "2001:db8:12:3400::/56"]) == 0
        said = capsys.readouterr().out
        assert set(has) <= set(said.splitlines()) and has_not not in said


@pytest.mark.parametrize("written", [
    DOMAIN,
    {**DOMAIN, "br_address": ["2001:db8::", "1:2:3:4:5:6:7:8", "::ffff:1"],
     "rules": [RULE, {**RULE, "ipv6_prefix": "2001:0:1::/48", "ipv4_prefix": "1.2.3.0/24"}]},
    {"transport": "map-t", "dmr": "64:ff9b::/96", "interface_id": "draft03",
     "rules": [{"ipv6_prefix": "2001::/16", "ipv4_prefix": "1.2.3.4/32", "ea_length": 0, "psid": 0, "psid_length": 3, "fmr": True}]},
])
def test_a_domain_for_people_is_a_domain_in_an_inventory(home, written):
    domain = parse_domain(written)
    (home / "again.yml").write_text(text.domain(domain))
    read = yaml.safe_load((home / "again.yml").read_text())
    assert list(read) == ["map_domain"] and parse_domain(read["map_domain"]) == domain
    first = domain["rules"][0]["ipv6_prefix"].split("/", maxsplit=1)[0] + "/128"
    assert program("ce", "-d", "again.yml", first, "--json")[0] == program("ce", "-d", "-", first, "--json", stdin=json.dumps(written))[0]


def test_a_plan_for_people_is_a_domain_below_what_it_offers(home):
    said, faults = program(*questions.PLAN)
    ((_name, _arguments, (plan,)), *_rest) = questions.asked(home)
    assert faults == [] and parse_domain(yaml.safe_load(said)["map_domain"]) == plan["domain"]
    comments = dict(line[2:].split(maxsplit=1) for line in said.splitlines() if line.startswith("# "))
    assert {key: comments[key] for key in ("capacity", "ports_per_subscriber", "left_over.subscribers", "ea_lengths")} == {
        "capacity": str(plan["capacity"]), "ports_per_subscriber": str(plan["ports_per_subscriber"]),
        "left_over.subscribers": str(plan["left_over"]["subscribers"]), "ea_lengths": ", ".join(map(str, plan["ea_lengths"]))}


def test_a_lightweight_4over6_option_is_shown_and_no_domain_of_map(home):
    option = "0060002d005a001020010db8ffff00000000000000000001005c0015c00002124020010db800123400005d000400083400"
    said, _faults = program("decode", option)
    assert yaml.safe_load(said)["map_domain"]["binding"]["psid"] == 52
    said, faults = program("ce", "--option", option, "2001:db8::/56", code=1)
    assert said == "" and faults == ["softwire-map: transport: 'lw4o6': lightweight 4over6 is not MAP: it has a binding for each customer edge, no rules; "
                                     "use map-e or map-t (RFC 7596)"]


def test_the_isps(capsys):
    assert command.run(["isp", "--json"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["isp"]: one["rule_count"] for one in said} == {name: len(service["rules"]) for name, service in isp.services().items()}
    assert command.run(["isp", "OCN光", "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == isp.services()["ocn"]["rules"]
    assert command.run(["isp", "biglobe"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    known = isp.services()["biglobe"]["rules"]
    assert [dict(zip(header.split(), row.split())) for row in rows] == [{key: str(value) for key, value in rule.items()} for rule in known]


def test_every_rule_of_an_isp_leads_to_its_own_border_relay(home, capsys):
    for rule in isp.services()["biglobe"]["rules"][::40]:
        address = rule["ipv4_prefix"].split("/", maxsplit=1)[0]
        assert command.run(["owner", "--isp", "biglobe", f"{address}:5000", "--json"]) == 0
        edge = json.loads(capsys.readouterr().out)
        assert edge["br_address"] == rule["br_address"] and edge["rule"]["ipv6_prefix"] == rule["ipv6_prefix"]


REFUSED = {
    "ce -d domain.json 2001:db9::/56": "end_user_prefix: '2001:db9::/56': is outside every rule of the domain (2001:db8::/40): "
                                       "add the rule of this prefix or correct the prefix (RFC 7597 section 5.2)",
    "ce -d domain.json 2001:db8:12::/48": "end_user_prefix: '2001:db8:12::/48': is too short for rules[0] (2001:db8::/40 and 16 EA bits): "
                                          "this rule needs a prefix of at least /56 (RFC 7597 section 5.2)",
    "ce -d nowhere.yml ::/0": "--domain: 'nowhere.yml': cannot be read: No such file or directory",
    "ce -d . ::/0": "--domain: '.': cannot be read: Is a directory",
    "ce -d binary ::/0": "--domain: 'binary': cannot be read as UTF-8 text: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte",
    "ce -d broken.json ::/0": "--domain: 'broken.json': is no JSON (Expecting value: line 1 column 7 (char 6))",
    "ce -d vault.yml ::/0": "--domain: 'vault.yml': is no JSON (Expecting value: line 1 column 1 (char 0)), and no YAML either: could not determine a "
                            "constructor for the tag '!vault'   in \"<unicode string>\", line 1, column 13:     map_domain: !vault x                 ^",
    "ce -d list.yml ::/0": "domain: [1]: must be a MAP domain, a dict with some of the keys transport, interface_id, br_address, dmr, rules",
    "ce --option 5e ::/0": "byte 0: '5e': is no option: a code and a length are 4 bytes, here are 1 (RFC 8415 section 21.1)",
    "ce --isp nowhere ::/0": "--isp: 'nowhere': is not the name of a known service: use one of v6plus (v6 Plus), ocn (OCN Virtual Connect), "
                             "biglobe (BIGLOBE IPv6 option), nuro (NURO Hikari), or write a domain with the ISP's rules",
    "owner --isp transix 192.0.2.1:5000": "--isp: 'transix': transix is DS-Lite, not MAP: set up a DS-Lite tunnel (RFC 6333) to the AFTR that the ISP names",
    "isp transix": "isp: 'transix': transix is DS-Lite, not MAP: set up a DS-Lite tunnel (RFC 6333) to the AFTR that the ISP names",
    "ces -d domain.json 198.51.100.1": "prefix: '198.51.100.1': no rule of the domain has a customer edge there",
    "ces -d domain.json 192.0.2.18/24": "prefix: '192.0.2.18/24': has bits set after its first 24: write 192.0.2.0/24, or the length that is meant",
    "ces -d domain.json nonsense": "prefix: 'nonsense': must be an IPv4 address without length, such as 192.0.2.18",
    "ces -d domain.json 2001:db8::": "prefix: '2001:db8::': must be an IPv6 prefix with its length, such as 2001:db8:12:3400::/56 (RFC 4291 section 2.3)",
    "owner -d domain.json 192.0.2.18": "address: '192.0.2.18': must be an IPv4 address and a port, such as 192.0.2.18:1232",
    "owner -d domain.json 192.0.2.18:65536": "address: '65536': must be an integer between 0 and 65535",
    "ports 256 8": "psid: '256': must be an integer between 0 and 255 (RFC 7597 section 5.1)",
    "ports -1 8": "psid: '-1': must be an integer between 0 and 255 (RFC 7597 section 5.1)",
    "plan --ipv4-pools 192.0.2.0/24 --ipv6-prefix 2001:db8::/40": "subscribers: not set: is required, or ports_per_subscriber, or both",
    "options -d draft03.json": "interface_id: 'draft03': has no place in the options: a CE that reads them computes the MAP address of rfc7597 "
                               "(RFC 7598 section 4)",
    "decode 005f0000": "byte 0: '005f': S46_CONT_MAPT has no S46_RULE, which it needs (RFC 7598 section 5.2)",
    "decode --code 1 00": "code: '1': must be an integer between 94 and 96 (RFC 7598 section 5)",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_wrong_is_one_line_on_standard_error(home, capsys, line):
    (home / "binary").write_bytes(b"\xff")
    (home / "broken.json").write_text('{"a": ')
    (home / "vault.yml").write_text("map_domain: !vault x\n")
    (home / "list.yml").write_text("[1]\n")
    (home / "draft03.json").write_text(json.dumps({**DOMAIN, "interface_id": "draft03"}))
    assert command.run([*line.split(), "--json"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"softwire-map: {REFUSED[line]}\n")


def test_several_faults_are_a_line_each(home):
    said, faults = program("ce", "-d", "faults.yml", "::/0", code=1)
    assert said == "" and [fault.split(": ")[:3] for fault in faults] == [
        ["softwire-map", "map_domain.rules[0].psid_ofset", "6"], ["softwire-map", "map_domain.rules[0].ea_length", "60"]]
    said, faults = program("owner", "-d", "domain.json", stdin="192.0.2.18:1232\n\nnonsense\n" + 30 * "192.0.2.18:65536\n", code=1)
    assert said == "" and faults[0] == "softwire-map: line 3: 'nonsense': must be an IPv4 address and a port, such as 192.0.2.18:1232"
    assert len(faults) == 21 and faults[1].startswith("softwire-map: line 4: ") and faults[-1] == "softwire-map: and 11 more faults"


def test_what_is_odd_is_a_warning(home):
    said, warnings = program("owner", "-d", "odd.json", "192.0.2.18:1232")
    assert said and warnings == ["softwire-map: warning: br_address: '2001:db8::1': lies in 2001:db8::/40 of rules[0]: "
                                 "never delegate the end-user prefix around it"]


@pytest.mark.parametrize("line", [
    "", "nonsense", "ce 2001:db8::/56", "ce -d domain.json", "ce -d domain.json --isp ocn 2001:db8::/56", "ce --dom domain.json 2001:db8::/56", "ports 5",
    "plan --subscribers 5", "plan --ipv4-pools 192.0.2.0/24 --ipv6-prefix 2001:db8::/32 --transport map-x", "owner -d -", "completion --json",
])
def test_a_wrong_command_line_is_told_with_its_usage(home, capsys, line):
    with pytest.raises(SystemExit) as caught:
        command.run(line.split())
    said = capsys.readouterr()
    assert (caught.value.code, said.out) == (2, "") and said.err.startswith("usage: softwire-map")


def test_without_pyyaml_json_is_enough_and_yaml_has_its_fault(home):
    bare = ["-IS"]
    assert program("owner", "-d", "domain.json", "192.0.2.18:1232", python=bare)[0] == "192.0.2.18:1232  2001:db8:12:3400::/56\n"
    said, (fault,) = program("owner", "-d", "domain.yml", "192.0.2.18:1232", python=bare, code=1)
    assert said == "" and fault.startswith("softwire-map: --domain: 'domain.yml': is no JSON (")
    assert fault.endswith(f", and to read YAML {sys.executable} lacks PyYAML: install it (pip install pyyaml), or write the domain in JSON")


# What takes long to import, and none of the answers needs; the modules of ours that only some of them need.
HEAVY = {"asyncio", "dataclasses", "importlib.metadata", "inspect", "subprocess", "tempfile", "typing_extensions", "unittest", "urllib.request", "yaml"}
SELDOM = {"softwire_map.mapping.isp", "softwire_map.mapping.plan", "softwire_map.mapping.port_index", "softwire_map.completion", "pathlib", "unicodedata"}


@pytest.mark.parametrize(("line", "needed"), [
    ("ce -d domain.json 2001:db8:12:3400::/56", set()),
    ("owner -d domain.json 192.0.2.18:1232", set()),
    ("ports 52 8", set()),
    ("decode " + OPTION, set()),
    ("owner --isp ocn 153.240.72.209:1408", {"softwire_map.mapping.isp", "pathlib", "unicodedata"}),
])
def test_an_answer_imports_little(home, line, needed):
    script = (f"import sys; sys.path.insert(0, {str(HELPERS)!r})\nfrom softwire_map import command\n"
              f"code = command.run({line.split()!r})\nprint(code, *sorted(sys.modules))")
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    code, *modules = done.stdout.splitlines()[-1].split()
    assert code == "0" and set(modules) & (HEAVY | SELDOM) == needed


def test_nothing_to_write_to_is_told_and_a_reader_that_leaves_is_not(home):
    start = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HELPERS)!r}); from softwire_map.command import main; main()"]
    with open("/dev/full", "w", encoding="ascii") as full:
        for arguments in (["ports", "52", "8"], ["ces", "-d", "domain.json"]):
            done = subprocess.run([*start, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
            assert (done.returncode, done.stderr) == (1, "softwire-map: standard output: cannot be written: No space left on device\n")
    with subprocess.Popen([*start, "ces", "-d", "domain.json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("end_user_prefix")
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == -signal.SIGPIPE
    done = subprocess.run(["bash", "-c", '"$@" <&-', "bash", *start, "owner", "-d", "domain.json"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "softwire-map: standard input: '-': cannot be read: Bad file descriptor\n")


def completed(home, *words):
    """What bash offers for the last of these words."""
    script = program("completion")[0]
    asking = 'COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _softwire_map; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "--norc", "-c", f"{script}\n{asking}", "bash", "softwire-map", *words], cwd=home, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_completes_what_the_parser_knows(home):
    helped = program("--help")[0]
    listed = re.findall(r"^    (\w+)", helped, re.MULTILINE)
    assert {"ce", "ces", "owner", "ports", "isp", "plan", "options", "decode", "completion"} == set(listed)
    assert completed(home, "") == {*listed, "-h", "--help", "--version"}
    assert completed(home, "o") == {"owner", "options"}
    for subcommand in listed:
        told = set(re.findall(r"(?<=[ \[(])--?[a-z][a-z0-9-]*", program(subcommand, "--help")[0].partition("\n\nexit code")[0]))
        assert {"-h", "--help"} < told or subcommand == "completion"
        assert completed(home, subcommand, "-") == told, subcommand


def test_bash_completes_values(home):
    assert completed(home, "owner", "--isp", "") == completed(home, "isp", "") - {"-h", "--help", "--json"} == set(isp.services())
    assert completed(home, "plan", "--transport", "map-") == {"map-e", "map-t"}
    assert completed(home, "plan", "--interface-id", "d") == {"draft03"}
    assert completed(home, "ce", "-d", "dom") == completed(home, "ce", "--domain", "domain.") == {"domain.json", "domain.yml"}
    assert completed(home, "ports", "--psid-offset", "") == set()


def test_the_package_has_the_version_of_the_collection():
    version = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text())["version"]
    assert f'\nversion = "{version}"' in (REPOSITORY / "pyproject.toml").read_text()


def test_python_m(home):
    environment = {**os.environ, "PYTHONPATH": str(HELPERS)}
    done = subprocess.run([sys.executable, "-m", "softwire_map", "ports", "52", "8"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1232-1235\n2256-2259\n") and len(done.stdout.splitlines()) == 63
