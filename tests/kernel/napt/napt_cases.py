"""The port sets under test, and the ruleset for each."""

from __future__ import annotations

from pathlib import Path

import jinja2
from napt_lab import HOST, ROUTER_NETWORK

from ansible_collections.softwire.map.plugins.module_utils.mapping.port_index import port_index
from ansible_collections.softwire.map.plugins.module_utils.routers import customer_edge

TEMPLATES = Path(__file__).resolve().parents[3] / "plugins/module_utils/routers/templates/map_ce"
MSS = 1400
# None is the kernel's own.
TIMEOUTS = {"tcp_established": 7000, "tcp_transitory": 200, "tcp_time_wait": 33, "udp": 160, "dns": 11, "icmp": 60}


def port_ranges(psid, psid_length, offset):
    """RFC 7597 section 5.1."""
    tail = 16 - offset - psid_length
    starts = [a << (16 - offset) | psid << tail for a in range(1 if offset else 0, 1 << offset)]
    return [[start, start + (1 << tail) - 1] for start in starts]


class Case:
    """A CE with its port set; web and game are forwarded, service is reserved for the router."""

    def __init__(self, ranges, psid_length, static=None, prefix=None, router_networks=(ROUTER_NETWORK,)):
        self.ranges = ranges
        self.prefix = prefix
        self.address = prefix.split("/")[0] if prefix else "192.0.2.18"
        self.own = prefix or self.address
        self.psid_length = psid_length
        # The arithmetic's own fields, from the ports: the ranges have equal lengths and distances, and the first has A = 1 unless a is 0.
        self.psid_offset = (len(ranges) + 1).bit_length() - 1 if len(ranges) > 1 else 0
        self.psid = ranges[0][0] >> (16 - self.psid_offset - psid_length) & (1 << psid_length) - 1 if psid_length else None
        self.web, self.game, self.service = static or (None, None, None)
        self.forwards = [
            {"protocol": "tcp", "port": self.web, "to_address": HOST, "to_port": 80, "comment": 'a "web" server'},
            {"protocol": "tcp_udp", "port": self.game, "to_address": HOST, "to_port": 3074, "comment": ""},
        ] if static else []
        self.reserved = [self.service] if static else []
        self.index = port_index(ranges, list(static or ()))
        self.router_networks = list(router_networks)

    @property
    def full(self):
        return self.psid_length == 0

    def owns(self, port):
        return port > 0 and any(low <= port <= high for low, high in self.ranges)

    def pool(self):
        """The real ports an outgoing flow may get."""
        ports = {port for low, high in self.ranges for port in range(low, high + 1)} - {0}
        return ports if self.full else ports - set(self.index["static"])

    def foreign(self):
        """Ports of the neighbours: around the first range, the indexes, the ends."""
        low, high = self.ranges[0]
        some = {1, low - 1, high + 1, 65535, self.index["pool"][0], self.index["pool"][1], 80}
        return sorted(port for port in some if 0 < port < 65536 and not self.owns(port))

    @property
    def ce(self):
        """What the filter softwire.map.ce would say of it, as far as it matters here."""
        return {"ipv4_address": None if self.prefix else self.address, "ipv4_prefix": self.prefix, "port_ranges": self.ranges,
                "psid_length": self.psid_length, "psid_offset": self.psid_offset, "psid": self.psid}

    def programs(self, instance, tunnel=None):
        """The end of its NAPT on a tunnel, or the veth pair, of the instance's namespace, as the generation of a customer edge describes it."""
        made = {"instance": instance, "softwire": "jool_siit", "ce": self.ce, "translator": None, "tunnel": tunnel,
                "layout": {"namespaces": {"napt": instance}},
                "napt": {"device": "ce-main", "index": self.index, "router_networks": self.router_networks}}
        return customer_edge.programs_of(made, 1500)

    def render(self, max_ports_per_client=0):
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                                         keep_trailing_newline=True, loader=jinja2.FileSystemLoader(TEMPLATES))
        return environment.get_template("napt.nft.j2").render(
            instance="ce",
            ce=self.ce,
            napt={"device": "ce-main", "lan_interfaces": ["lan0"], "routed_networks": [], "router_networks": self.router_networks,
                  "router_device": None, "sources": ["192.168.0.0/24"] + self.router_networks, "mss": MSS, "port_forwards": self.forwards,
                  "reserved_ports": self.reserved, "index": self.index, "timeouts": TIMEOUTS,
                  "max_ports_per_client": max_ports_per_client})


CASES = {
    "a4_k8": Case(port_ranges(0x34, 8, 4), 8),
    "ocn_a6_k6": Case(port_ranges(42, 6, 6), 6, (1696, 30000 // 1024 * 1024 + 42 * 16 + 5, 65535 // 1024 * 1024 + 42 * 16 + 15)),
    "a6_k8": Case(port_ranges(0x34, 8, 6), 8, (1232, 2257, 64723)),
    "a6_k4_no_gap": Case(port_ranges(3, 4, 6), 4),
    "a0": Case(port_ranges(3, 5, 0), 5),
    "a0_psid0_forwards": Case(port_ranges(0, 5, 0), 5, (8, 1024, 2000)),
    "full": Case([[0, 65535]], 0, (8080, 3074, 2222)),
    "prefix": Case([[0, 65535]], 0, (8080, 3074, 2222), prefix="192.0.2.16/28"),
}
