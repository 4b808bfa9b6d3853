"""The two customer edges and what runs while they are maltreated: traffic of their LANs, and captures at the border relays."""

from __future__ import annotations

from pathlib import Path

import pytest

from leaks import fault
from play import Play
from router import HERE, LAB, PACKAGES, ROUTERS, SERVER, Router, everywhere
from nodes import RELAYS, captures, mac  # which router.py says where to find

PACKETS = Path(__file__).resolve().parents[2] / "helpers" / "packets.py"
FAILED = pytest.StashKey[bool]()


class Network:
    """Both customer edges, and plays that lead them from one configuration to another."""

    routers = ROUTERS

    def __init__(self):
        self.plays = []

    def start(self, wanted, *arguments, more=None, each=None, **options):
        """A play that is on its way; wanted: {router: Wanted}, more: variables for all of them, each: {router: variables}."""
        variables = {router.name: {**router.variables(target), **(more or {}), **(each or {}).get(router, {})} for router, target in wanted.items()}
        self.plays.append(Play(variables, *arguments, **options))
        return self.plays[-1]

    def converge(self, wanted, **options):
        """A run that has to succeed; afterwards the routers are what is wanted, with nothing left over."""
        play = self.start(wanted, **options)
        assert play.wait() == 0, play.output
        for router in wanted:
            assert play.recap(router.name)["failed"] == 0
            router.wanted = wanted[router]
        # Packets have shown before what a state that is known does.
        everywhere(lambda router: router.assert_state(router.known[wanted[router]], wanted[router])
                   if wanted[router] in router.known else router.check(wanted[router]), wanted)
        assert not any(everywhere(Router.leftovers, wanted)), "a run that succeeds leaves nothing behind"
        return play

    def recover(self):
        """After a test that failed, wherever it left the routers: by the very run that has to succeed after any fault."""
        for play in self.plays:
            play.kill()
        LAB.up()
        everywhere(Router.kill_module)
        everywhere(Router.mend)
        everywhere(Router.wait_until_settled)
        self.converge({router: router.wanted for router in self.routers})

    def check(self, wanted):
        everywhere(lambda router: router.check(wanted[router]), wanted)


@pytest.fixture(scope="session", name="network")
def network_():
    script = ("cat > /run/traffic.py; if kill -0 $(cat /run/traffic.pid); then exit; fi;"  # of a session before on the same lab
              "(setsid python3 /usr/local/lib/lab/server & setsid python3 /run/traffic.py {} & echo $! > /run/traffic.pid) > /dev/null 2>&1 < /dev/null")
    for router in ROUTERS:
        done = LAB.exec(router.client, ["sh", "-c", "cat > /run/packets.py"], input=PACKETS.read_text())
        assert done.returncode == 0, done.stderr
        done = LAB.exec(router.client, ["sh", "-c", script.format(SERVER)], input=Path(HERE, "traffic.py").read_text())
        assert done.returncode == 0, done.stderr
        install = f"mkdir -p {PACKAGES}; cat > {PACKAGES}/stop_at.py; echo import stop_at > {PACKAGES}/stop_at.pth"
        done = LAB.exec(router.name, ["sh", "-c", install], input=Path(HERE, "stop_at.py").read_text())
        assert done.returncode == 0, done.stderr
    made = Network()
    made.check({router: router.wanted for router in ROUTERS})
    return made


@pytest.fixture(scope="module")
def wire(network):
    """Everything that the customer edges put on their WAN from here on, looked at when all tests are done."""
    senders = " or ".join(f"ether src {mac(router.name, 'isp')}" for router in network.routers)
    with captures(LAB, {(relay, "isp"): senders for relay in RELAYS}) as seen:
        yield
    frames = {router: {} for router in network.routers}
    by_mac = {bytes.fromhex(mac(router.name, "isp").replace(":", "")): router for router in network.routers}
    for captured in seen.values():
        for frame in captured.frames:
            router = by_mac[frame[6:12]]
            verdict = fault(frame, router.edges)
            frames[router].setdefault(verdict, []).append(frame.hex())
    for router, verdicts in frames.items():
        assert len(verdicts.pop(None, [])) > 100, f"{router.name} forwarded nothing worth looking at"
        verdicts.pop("", None)
        assert not verdicts, (router.name, {text: found[0] for text, found in verdicts.items()})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture(autouse=True)
def mended(request, network):
    """A test that fails leaves nothing in the way of the next one."""
    yield
    if request.node.stash.get(FAILED, True):
        network.recover()
    network.plays.clear()
