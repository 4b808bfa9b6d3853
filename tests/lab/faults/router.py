"""A customer edge of the lab: what it is meant to be, what it is, and what is done to it."""

from __future__ import annotations

import difflib
import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE.parent / "packets"), str(ROOT / "collections")]

from ansible_collections.softwire.map.plugins.filter.ce import FilterModule  # noqa: E402
from nodes import LAB, SERVER, SERVER_NODE  # noqa: E402
from leaks import has  # noqa: E402

INVENTORY = yaml.safe_load((ROOT / "molecule/faults/inventory.yml").read_text())["map_ce"]["hosts"]
LINES = {
    "ce1": ("2001:db8:12:3400::/56", "2001:db8:13:5600::/56"),
    "ce2": ("2001:db8:ce:11b::/64", "2001:db8:ce:774::/64"),
}
PATIENCE = 120  # seconds; generous, since the machine may be busy
SETTLING = 30
CUT_OFF = 15  # seconds until a router that nobody confirms goes back
STATE = (HERE / "state.sh").read_text()
CLIENT = (HERE / "client.py").read_text()
STOP = "/run/stop"
PACKAGES = "/usr/local/lib/python3.11/dist-packages"
JOOL = "/usr/local/sbin/jool_siit"  # comes before the real one
# What the tests break on a router. Its disk, where it was a small one, gets what the small one holds.
MEND = f"""
rm -rf {STOP} {JOOL} /run/failed-once /etc/softwire/filler
for hidden in /sys/module /lib/modules; do
    if [ "$(stat -f -c %T $hidden)" = tmpfs ]; then umount $hidden || exit 1; fi
done
if mountpoint -q /etc/softwire; then
    set -e
    cp -a /etc/softwire /run/kept
    umount /etc/softwire
    rm -rf /etc/softwire/* /run/saved
    cp -a /run/kept/. /etc/softwire
    rm -rf /run/kept
fi
"""
# Facts that change by themselves, or by chance.
VOLATILE = re.compile(r"nf_conntrack_count|fastopen_key|file-nr|ip_local_port|gc_stale|base_reachable")
CHANCE = [(re.compile(pattern), text) for pattern, text in (
    (r"^(\d+): (?=\w)", ""), (r"@if\d+|@\w+(?=:)", ""), (r"link-netns(id)? \S+|permaddr \S+| qlen \d+| numtxqueues.*", ""),
    (r"valid_lft.*| tentative|expires \d+sec", ""), (r"(?!02:00:5e)\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b(?= brd)", "MAC"),
    (r"fe80::[0-9a-f:]*ff:fe[0-9a-f:]*", "LINK-LOCAL"), (r"fe80::(?!\d\b)[0-9a-f:]+", "LINK-LOCAL"),
    (r" id \d+| tag .*| jited.*", ""), (r"generations/\d+-", "generations/"))]


class Wanted(NamedTuple):
    """What differs between the configurations of the tests."""

    line: int  # which of two end-user prefixes
    forward: bool  # whether a port leads to the client


def other(router, reload=True):
    """The configuration to go to: another forward takes a reload, another prefix a restart."""
    line, forward = router.wanted
    return Wanted(line, not forward) if reload else Wanted(1 - line, forward)


class Router:
    def __init__(self, name, client):
        self.name, self.client = name, client
        self.wanted = Wanted(0, False)  # as molecule's converge left it
        self.domain = INVENTORY[name]["map_domain"]
        self.edges = [FilterModule().filters()["ce"](self.domain, prefix) for prefix in LINES[name]]
        self.known = {}  # the state of each configuration, as it was seen first

    def exec(self, script, timeout=PATIENCE):
        return LAB.exec(self.name, ["sh", "-c", script], timeout=timeout)

    def do(self, script):
        done = self.exec(script)
        assert done.returncode == 0, f"{self.name}: {script}: {done.stdout}{done.stderr}"
        return done.stdout

    # what it is meant to be

    def forwarded_port(self, line):
        return self.edges[line]["port_ranges"][0][0] + 1

    def variables(self, wanted):
        forward = {"port": self.forwarded_port(wanted.line), "to_address": "192.168.0.4", "to_port": 80}
        return {"map_ce_end_user_prefix": LINES[self.name][wanted.line], "map_ce_port_forwards": [forward] if wanted.forward else []}

    # what it is

    def state(self):
        """Facts about kernel and disk that say which configuration runs, in a comparable order."""
        done = LAB.exec(self.name, ["sh", "-s"], input=STATE, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        facts, rules, section = [], [], ""
        for line in done.stdout.splitlines():
            if line.startswith("### "):
                section = line
            elif rules or line.startswith("table "):
                rules.append(line)  # their order matters, that of the tables does not
                if line == "}":
                    facts.append(f"{section} " + "\n".join(rules))
                    rules = []
            elif not VOLATILE.search(line):
                for pattern, text in CHANCE:
                    line = pattern.sub(text, line)
                facts.append(f"{section} {line.strip()}")
        return sorted(fact for fact in facts if fact.strip())

    def assert_state(self, expected, what):
        """Asserts what self.state() gives; waits a little, since links need a moment to come up."""
        deadline = time.monotonic() + SETTLING
        now = self.state()
        while now != expected and time.monotonic() < deadline:
            time.sleep(1)
            now = self.state()
        old, new = ("\n".join(facts).splitlines() for facts in (expected, now))
        diff = list(difflib.unified_diff(old, new, "expected", "found", lineterm="", n=0))
        assert not diff, f"{self.name} is not {what}:\n" + "\n".join(diff)

    def which(self, possible):
        """The one of these known configurations that it is, as a whole; waits a little."""
        deadline = time.monotonic() + SETTLING
        while time.monotonic() < deadline:
            now = self.state()
            for wanted in possible:
                if self.known[wanted] == now:
                    return wanted
            time.sleep(1)
        return self.assert_state(self.known[possible[0]], f"{possible[0]}, nor another of {possible}")

    def check(self, wanted):
        """Asserts by packets in both directions, and by its state, that it is one configuration and no mixture."""
        edge = self.edges[wanted.line]
        seen = self.seen()
        assert seen["ping"] >= 4, (self.name, seen)
        for protocol in ("tcp", "udp"):
            address, _colon, port = seen[protocol].rpartition(":")
            assert address == edge["ipv4_address"] and has(edge, int(port)), f"{self.name}, {wanted}: {seen}"
        assert self.forwards(wanted.line) == wanted.forward, (self.name, wanted)
        if wanted in self.known:
            self.assert_state(self.known[wanted], wanted)
        else:  # what every later way to the same configuration has to give
            self.known[wanted] = self.state()

    def seen(self):
        """What the client gets through, and as whom the server sees it."""
        done = LAB.exec(self.client, ["python3", "-", SERVER], input=CLIENT, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def forwards(self, line):
        """Whether the server reaches the client by the forwarded port of a line."""
        url = f"http://{self.edges[line]['ipv4_address']}:{self.forwarded_port(line)}/"
        return LAB.exec(SERVER_NODE, ["curl", "-s", "-f", "-o", "/dev/null", "--max-time", "3", url]).returncode == 0

    def leftovers(self):
        """What an interrupted deployment may leave on the disk, and a finished one does not."""
        return self.do("ls -A /etc/softwire/ce /etc/softwire/ce/generations | grep -E '^\\.|unconfirmed' || true").split()

    # what is done to it

    def stop_at(self, event, pattern):
        """The next program that comes to this point stops there, see stop_at.py."""
        LAB.exec(self.name, ["sh", "-c", f"rm -rf {STOP}; mkdir {STOP}; mkfifo {STOP}/reached {STOP}/go; cat > {STOP}/at"],
                 input=f"{event}\n{pattern}\n")

    def wait_for_stop(self, play):
        """Waits until a program of this router has stopped; fails where the play ends before."""
        self.wait_for(f"timeout 10 cat {STOP}/reached", play, pause=0)

    def wait_for(self, condition, play=None, pause=1):
        """Waits until a shell command succeeds on this router; fails where the play ends before. pause: seconds between two tries."""
        deadline = time.monotonic() + PATIENCE
        while self.exec(condition).returncode:
            assert play is None or play.process.poll() is None, f"{self.name} did not come to {condition}:\n{play.output}"
            assert time.monotonic() < deadline, f"{self.name} does not come to {condition}"
            time.sleep(pause)

    def go_on(self):
        """Lets the program that stopped go on, or nobody stop any more."""
        self.do(f"rm -f {STOP}/at; if test -e {STOP}/was; then timeout 10 sh -c 'echo > {STOP}/go' || true; fi")

    def kill_module(self):
        """SIGKILL for what the play runs here; what systemd runs goes on."""
        self.do("for process in /proc/[0-9]*; do"
                " case $(tr '\\0' ' ' < $process/cmdline 2>/dev/null) in '/usr/bin/python3 ') kill -9 ${process#/proc/} ;; esac; done")
        self.go_on()

    def mend(self):
        """Makes whole what the tests break, so that nothing of one test is in the way of another."""
        self.go_on()
        self.do(MEND)

    def power_cut(self):
        LAB.kill(self.name)

    def wait_until_settled(self):
        """Waits until nothing goes on any more: nobody waits for a confirmation, and the unit has its state."""
        self.wait_for("! systemctl -q is-active softwire-rollback-ce.service && "
                      "case $(systemctl show -P ActiveState softwire@ce) in active|failed|inactive) ;; *) false ;; esac")


ROUTERS = [Router(edge, client) for client, edge in LAB.topology.edges.items()]


def everywhere(action, routers=None):
    """Calls action(router) for all of them at the same time."""
    routers = list(ROUTERS if routers is None else routers)
    with ThreadPoolExecutor(len(routers)) as pool:
        return list(pool.map(action, routers))
