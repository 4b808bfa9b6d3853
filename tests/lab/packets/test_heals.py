"""A router puts right what somebody changes, by itself, and its clients notice little of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from nodes import CLIENTS, EDGE_OF, RELAYS, SERVER, python

ROUTERS = (*EDGE_OF.values(), *RELAYS)
# What Debian's own nftables.service does when it starts begins with "flush ruleset". The second is what is left by those who believe
# that all routes, rules, filters and settings of a machine are theirs.
DAMAGE = {
    "tables": "nft flush ruleset",
    "ways, programs and settings": """
        sed -n 's/^rule add/rule del/p; s/^route add/route del/p' main/ip main/ip-late 2> /dev/null | ip -force -batch - 2> /dev/null
        sed -n 's/^qdisc add/qdisc del/p' main/tc | tc -force -batch - 2> /dev/null
        sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
    """,
}
# Does the damage, and waits until the router counts one more repair; then it compares the whole router with its generation.
HEAL = """
import json, os, subprocess, sys, time
damage, patience = sys.argv[1], float(sys.argv[2])
name, = os.listdir("/etc/softwire")
os.chdir("/etc/softwire/%s/current" % name)

def repairs():
    try:
        with open("/run/softwire/%s/repairs" % name) as file:
            return json.load(file)["repairs"]
    except FileNotFoundError:
        return 0

before, start = repairs(), time.monotonic()
subprocess.run(["sh", "-c", damage])
while repairs() == before and time.monotonic() - start < patience:
    time.sleep(0.2)
took = time.monotonic() - start
subprocess.run([sys.executable, "-B", "-m", "softwire", "metrics", "/run/heals.prom"], check=True)
with open("/run/heals.prom") as file:
    equal = any(line.startswith("softwire_state_equal") and line.endswith(" 1\\n") for line in file)
print(json.dumps({"repairs": repairs() - before, "seconds": round(took, 1), "equal": equal}))
"""
PATIENCE = 200  # seconds, of an emulated CPU that all routers share


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_somebody_takes_away_comes_back(lab, damage):
    with ThreadPoolExecutor(len(ROUTERS)) as pool:
        healed = dict(zip(ROUTERS, pool.map(lambda host: python(lab, host, HEAL, DAMAGE[damage], PATIENCE), ROUTERS)))
    print(json.dumps(healed))
    assert all(each["repairs"] >= 1 and each["equal"] for each in healed.values()), healed
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        pings = dict(zip(CLIENTS, pool.map(lambda client: lab.exec(client, ["ping", "-c", "2", "-W", "5", SERVER]).stdout, CLIENTS)))
    assert all(" 2 received" in printed for printed in pings.values()), pings
