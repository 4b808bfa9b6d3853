"""Access to the running lab, and what its inventory says of each customer edge."""

from __future__ import annotations

import hashlib
import json
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nodes import CLIENTS, EDGE_OF, LAB, RELAYS, SERVER, SERVER6, SERVER_NODE, Edges, captures

# The tests of the other transport
collect_ignore = ["test_mapt.py"] if LAB.topology.name == "mape" else ["test_mape.py"]
SOURCE_PORT = 40000
CLIENT_SCRIPT = (Path(__file__).parent / "client.py").read_text()


@pytest.fixture(scope="session")
def lab():
    return LAB


@pytest.fixture(scope="session")
def inventory():
    """{host: {"ce": what the filter softwire.map.ce gives, "port_forwards": [...], "namespace": str}}, from verify.yml."""
    if "LAB_EDGES" not in os.environ:
        pytest.fail("LAB_EDGES is not set: these tests are started by molecule's verify.yml")
    return json.loads(os.environ["LAB_EDGES"])


@pytest.fixture(scope="session")
def edges(inventory):
    return Edges({client: inventory[host]["ce"] for client, host in EDGE_OF.items()})


@pytest.fixture(scope="session")
def carriers(lab):
    """What carries the softwire of each router, by host, as the router has chosen."""
    hosts = [*EDGE_OF.values(), *RELAYS]
    done = lab.exec_all([(host, ["sh", "-c", "cat /etc/softwire/*/current/parameters.json"]) for host in hosts])
    return {host: json.loads(run.stdout)["softwire"] for host, run in zip(hosts, done)}


@pytest.fixture
def fails_where(request):
    """Marks the running test as one that has to fail where something is so; reason: a row of the table "What Jool cannot do"."""
    def mark(condition, reason):
        if condition:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError))
    return mark


@pytest.fixture(scope="session")
def transport(edges):
    return edges["c1"]["transport"]


@pytest.fixture(scope="session")
def forwarded(inventory):
    """The client with a forwarded TCP port, that port, and the client's own."""
    for client, host in EDGE_OF.items():
        for forward in inventory[host]["port_forwards"]:
            return client, forward["port"], forward["to_port"]
    return pytest.fail("no customer edge has a port forward")


@pytest.fixture(scope="session")
def megabyte():
    """The SHA-256 of what the server sends for /mb."""
    return hashlib.sha256(random.Random(7597).randbytes(1_000_000)).hexdigest()


@pytest.fixture(scope="session")
def traffic(lab, edges):
    """Every client's battery, all at the same time, with captures at the server and on the border relays' IPv6 side."""
    # Without offload the ends compute and check every checksum, and the capture shows the real ones.
    ends = [(client, "lan") for client in CLIENTS] + [(SERVER_NODE, "inet")]
    for done in lab.exec_all([(node, ["ethtool", "-K", device, "tx", "off"]) for node, device in ends]):
        assert done.returncode == 0, done.stderr
    # Two clients are one address to the server: its limit of errors per destination would hit them.
    assert lab.exec(SERVER_NODE, ["sysctl", "-qw", "net.ipv4.icmp_ratelimit=0"]).returncode == 0
    own = " or ".join(sorted({f"src net {edge['rule']['ipv4_prefix']}" for edge in edges.values()}))
    with captures(lab, {(SERVER_NODE, "inet"): f"ip and ({own})"}) as at_server, \
            captures(lab, {(relay, "isp"): "" for relay in RELAYS}, "-v") as at_relays:
        start = float(lab.exec(SERVER_NODE, ["date", "+%s"]).stdout) + 5

        def battery(client):
            argv = ["python3", "-", SERVER, SERVER6, str(SOURCE_PORT), str(start)]
            return lab.exec(client, argv, input=CLIENT_SCRIPT, timeout=600)

        with ThreadPoolExecutor(len(CLIENTS)) as pool:
            done = dict(zip(CLIENTS, pool.map(battery, CLIENTS)))
    for client, run in done.items():
        print(client, run.stderr)
        assert run.returncode == 0, run.stderr
    results = {client: json.loads(run.stdout) for client, run in done.items()}
    return {"results": results, "at_server": at_server, "at_relays": at_relays}
