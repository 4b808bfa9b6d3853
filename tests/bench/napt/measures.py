"""What is measured: utilisation, churn and endpoint independence as exact counts; rates and times by the clock."""

from __future__ import annotations

import contextlib
import random
import statistics
import struct
import threading
import time

from designs import DEVICE, LAN
from napt_lab import HOST, HOST2, SERVER, SERVERS, Lab, run
from bursts import MARKER, Conntrack, Wire, packet, source

# A SYN and its repetitions (net.ipv4.tcp_syn_retries)
TRIES = 1 + 6
# When a flow is given up for good
PATIENCE = 200
TURNS = 5
PACKETS = 64 * 60
PAYLOAD = b"x" * 64
TCP_BYTES = 8 << 20
CHURN_LIMIT = 3
ENDS = (("client", "eth0"), ("net", "s0"))
# At the ends UDP is counted and goes no further: no host answers for the flows
SINK = """
table ip sink {
  counter served { }
  counter untranslated { }
  chain prerouting {
    type filter hook prerouting priority raw;
    ip protocol udp ip saddr LAN counter name "untranslated"
    ip protocol udp counter name "served" drop
  }
}
"""


def sockets(count, seed=0):
    """Client sockets as (address, port), ports as Linux gives them out."""
    chosen = random.Random(seed)
    made = set()
    while len(made) < count:
        made.add((f"192.168.0.{chosen.randint(20, 219)}", chosen.randint(32768, 60999)))
    return sorted(made, key=lambda _: chosen.random())


def flows_to(server, count, seed=0):
    return [(*one, server, 443) for one in sockets(count, seed)]


class Bench:
    """The unit tests' lab (client - CE - internet) with a design in the CE."""

    def __init__(self, scratch):
        self.scratch = scratch
        self.design = None
        self.offered = self.leaked = 0
        self.lab = Lab("192.0.2.0/24", "192.0.2.18")
        try:
            self._prepare()
        except BaseException:
            self.lab.close()
            raise

    def _prepare(self):
        (self.scratch / "sink").write_text(SINK.replace("LAN", LAN), encoding="utf-8")
        for role, device in ENDS:
            self.lab.run(role, "nft", "-f", str(self.scratch / "sink"))
            # segments of one size, whether or not a design lowers the MSS
            self.lab.ip(role, f"link set {device} mtu 1460")
        # no flow ends by itself while it is counted on
        self.lab.run("napt", "sysctl", "-q", "-w", "net.netfilter.nf_conntrack_udp_timeout=3600")
        self.up = Wire(self.lab, "client", "eth0", "lan0", self.lab.outside)
        self.down = Wire(self.lab, "net", "s0", DEVICE, self.lab.inside)
        self.conntrack = Conntrack(self.lab, "napt")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lab.close()

    def load(self, design):
        """Put a design into an empty CE; return how long its rules took, in milliseconds."""
        self.design = design
        self.lab.run("napt", "nft", "flush", "ruleset")
        self.lab.detach()
        begun = time.perf_counter()
        if design.programs:
            self.lab.attach(design.programs(self.lab.instance))
        took = 1000 * (time.perf_counter() - begun) + self.apply()
        self.forget()
        return took

    def apply(self):
        (self.scratch / "rules").write_text(self.design.rules, encoding="utf-8")
        begun = time.perf_counter()
        self.lab.run("napt", *self.design.command, str(self.scratch / "rules"))
        return 1000 * (time.perf_counter() - begun)

    def forget(self):
        """No flows but the markers'."""
        self.lab.run("napt", "conntrack", "-F")
        [first] = self.up.through([packet(MARKER, b"")])
        self.down.mark((*MARKER[2:], *source(first)))

    def merge(self, switch):
        """Whether links merge the segments of a stream."""
        for role, device in (*ENDS, ("napt", "lan0"), ("napt", DEVICE)):
            features = [word for feature in ("tx", "rx", "tso", "gso", "gro") for word in (feature, switch)]
            self.lab.run(role, "ethtool", "-K", device, *features)

    def open(self, flows):
        """Send a packet on each flow; return {number of the flow: public side} of those that were served."""
        out = self.up.through([packet(flow, struct.pack("!I", number)) for number, flow in enumerate(flows)])
        answers = {struct.unpack("!I", data[28:32])[0]: source(data) for data in out}
        served = {number: (address, port) for number, (address, port) in answers.items()
                  if address == self.design.address and port in self.design.ports}
        self.offered += len(flows)
        self.leaked += len(answers) - len(served)
        return served

    def open_patiently(self, flows, tries=TRIES):
        """Try again and again, as often as TCP does.

        Returns the flows that got through, those that did not, and how many tries the last of them took.
        """
        served, waiting, taken = [], flows, 0
        while waiting and taken < tries:
            taken += 1
            done = self.open(waiting)
            served += [flow for number, flow in enumerate(waiting) if number in done]
            waiting = [flow for number, flow in enumerate(waiting) if number not in done]
        return served, waiting, taken


def utilisation(bench, count, seed):
    """As many flows to one destination as there are ports; % of the ports."""
    bench.forget()
    flows = flows_to(SERVER, count, seed)
    served = bench.open(flows)
    assert len(set(served.values())) == len(served), "two flows share a port"
    failed = [flow for number, flow in enumerate(flows) if number not in served]
    first_failure = next((number for number in range(count) if number not in served), count)
    later, left, tries = bench.open_patiently(failed)
    _, lost, more = bench.open_patiently(left, PATIENCE)
    return {
        "first_failure": 100 * first_failure / count,
        "first_try": 100 * len(served) / count,
        "with_retries": 100 * (len(served) + len(later)) / count,
        "tries_for_all": None if lost else 1 + tries + more,
    }


def churn(bench, count, fill, steps, seed):
    """Keep a part of the ports busy towards one destination: a flow ends, another starts. First tries that fail, %.

    None for a design that never holds that many flows.
    """
    bench.load(bench.design)
    wanted = round(count * fill)
    flows = flows_to(SERVER, wanted + steps, seed)
    live, _, _ = bench.open_patiently(flows[:wanted])
    if len(live) < wanted:
        return None
    chosen, failures, begun = random.Random(seed), 0, time.monotonic()
    for done, flow in enumerate(flows[wanted:], 1):
        if len(live) == wanted:
            assert bench.conntrack.end(live.pop(chosen.randrange(wanted))), "a flow ended by itself"
        served = [flow] if bench.open([flow]) else []
        if not served:
            failures += 1
            served, _, _ = bench.open_patiently([flow])
        if not served:
            # its user gives up
            bench.conntrack.end(flow)
        live += served
        if time.monotonic() - begun > CHURN_LIMIT:
            break
    return 100 * failures / done


def endpoint_ports(bench, count, seed):
    """Public ports that a socket shows to ten destinations, one after the other: the mean over half as many sockets as ports."""
    bench.forget()
    made = sockets(count // 2, seed)
    flows = [(*one, server, 443) for one in made for server in SERVERS]
    seen = {}
    for number, public in bench.open(flows).items():
        seen.setdefault(number // len(SERVERS), set()).add(public)
    return sum(map(len, seen.values())) / len(seen)


def received(bench, role, counter="served"):
    """UDP packets that came to an end of the lab."""
    return int(bench.lab.run(role, "nft", "list", "counter", "ip", "sink", counter).split("packets")[1].split()[0])


@contextlib.contextmanager
def new_flows(bench, count):
    """12000 new flows, half as many to each destination as there are ports: those per second that get through."""
    half = count // 2
    flows = [flow for number in range(12000 // half) for flow in flows_to(f"203.0.113.{number}", half, number)]
    bursts = bench.up.bursts([packet(flow, PAYLOAD) for flow in flows])

    def through():
        return received(bench, "net") - (received(bench, "net", "untranslated") if bench.design.address else 0)

    def rate():
        bench.forget()
        before = through()
        seconds, markers = bench.up.time(bursts, 0.5)
        return (through() - before - markers) / seconds

    yield rate


def forwarding(direction):
    """Small UDP packets per second on open flows."""
    @contextlib.contextmanager
    def prepare(bench, _count):
        bench.forget()
        # one flow per destination, so that every design serves them
        flows = [(HOST, 40000 + number, f"203.0.113.{number}", 443) for number in range(1, 65)]
        publics = [source(data) for data in bench.up.through([packet(flow, PAYLOAD) for flow in flows])]
        if direction == "in":
            wire, flows = bench.down, [(*flow[2:], *public) for flow, public in zip(flows, publics, strict=True)]
        else:
            wire = bench.up
        bursts = wire.bursts([packet(flow, PAYLOAD) for flow in flows] * (PACKETS // len(flows)))

        def rate():
            return PACKETS / wire.time(bursts, 60)[0]

        sink = {"out": "net", "in": "client"}[direction]
        before = received(bench, sink)
        yield rate
        assert (received(bench, sink) - before) % (PACKETS + len(bursts)) == 0, "packets were lost"

    return prepare


def tcp_stream(merged):
    """Mbit/s of a TCP stream out of the LAN, in segments of 1420 bytes, or merged as network cards do (GRO, TSO)."""
    size = TCP_BYTES * (4 if merged else 1)
    data, buffer = bytes(size), bytearray(1 << 18)

    @contextlib.contextmanager
    def prepare(bench, _count):
        with contextlib.ExitStack() as stack:
            if merged:
                bench.merge("on")
                stack.callback(bench.merge, "off")
            listener = stack.enter_context(bench.lab.listen("net", (SERVER, 5001)))
            sender = stack.enter_context(bench.lab.connect("client", (SERVER, 5001), (HOST2, 0)))
            receiver = stack.enter_context(listener.accept()[0])

            def rate():
                begun = time.perf_counter()
                thread = threading.Thread(target=sender.sendall, args=(data,))
                thread.start()
                left = size
                while left:
                    left -= receiver.recv_into(buffer, min(left, len(buffer)))
                thread.join()
                return 8e-6 * size / (time.perf_counter() - begun)

            yield rate

    return prepare


RATES = {
    "new_flows": new_flows, "packets_out": forwarding("out"), "packets_in": forwarding("in"),
    "tcp": tcp_stream(merged=False), "tcp_merged": tcp_stream(merged=True),
}


def rates(bench, masquerade, count):
    """Each rate as a multiple of masquerade's: turn by turn, so that both see the same machine."""
    result = {}
    for name, prepare in RATES.items():
        with prepare(bench, count) as mine, prepare(masquerade, count) as its:
            pairs = [(mine(), its()) for _ in range(TURNS)]
        result[name] = round(statistics.median(own / other for own, other in pairs), 3)
        result[name + "_absolute"] = round(max(own for own, _ in pairs))
    return result


def machine():
    """What the numbers depend on."""
    return {"kernel": run("uname", "-r").strip(), "nft": run("nft", "--version").strip(),
            "iptables": run("iptables-nft", "--version").strip()}


def measure(bench, masquerade, design, count, seed, churn_steps):
    """One round of a design: every number there is, by name."""
    result = {"load_ms": bench.load(design), "reload_ms": bench.apply()}
    bench.offered = bench.leaked = 0
    if len(design.ports) == count:
        result.update(utilisation(bench, count, seed))
        for fill in (70, 90, 96):
            holds = result["with_retries"] >= fill
            result[f"churn_{fill}"] = churn(bench, count, fill / 100, churn_steps * count, seed) if holds else None
    if design.ports:
        result["endpoint_ports"] = endpoint_ports(bench, count, seed)
        result["leaked"] = 100 * bench.leaked / bench.offered
    result.update(rates(bench, masquerade, count))
    return result
