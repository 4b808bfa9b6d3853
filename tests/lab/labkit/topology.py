"""A topology file and everything that follows from it without touching the machine."""
from __future__ import annotations

import dataclasses
import ipaddress
import json
import tomllib
from pathlib import Path

from labkit.common import RUN, SOURCE, LabError

LABEL = "softwire-lab"  # containers, and the namespace that holds the bridges
IMAGE = "localhost/softwire-lab-node"
SUITES = ("bookworm", "trixie")  # Debian 12 and 13; the first one is the default
UPLINK = "swlab-mgmt"  # the machine's interface in the management network

# A node starts as a host that forwards nothing, whatever the machine itself does.
SYSCTLS = (
    "net.ipv4.ip_forward=0",
    "net.ipv6.conf.all.forwarding=0",
    "net.ipv6.conf.all.disable_ipv6=0",
    "net.ipv6.conf.default.disable_ipv6=0",
    # duplicate address detection costs a second per interface
    "net.ipv6.conf.all.accept_dad=0",
    "net.ipv6.conf.default.accept_dad=0",
)


@dataclasses.dataclass(frozen=True)
class Interface:
    name: str
    network: str
    mac: str  # pinned: otherwise neighbours hold stale entries after a restart
    addresses: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Node:
    name: str
    group: str | None  # of the Ansible inventory; None: not managed by Ansible
    server: bool
    suite: str  # the Debian release of its image
    networkd: bool  # whether systemd-networkd configures it, not `ip -batch`
    interfaces: tuple[Interface, ...]
    routes: tuple[str, ...]

    @property
    def networks(self) -> set[str]:
        return {interface.network for interface in self.interfaces}


@dataclasses.dataclass(frozen=True)
class Topology:
    name: str
    networks: tuple[str, ...]
    management_network: str
    management_address: str  # the machine's own, with its length
    nodes: dict[str, Node]

    @property
    def suites(self) -> list[str]:
        """The Debian releases of the nodes."""
        return sorted({node.suite for node in self.nodes.values()})

    @property
    def edges(self) -> dict[str, str]:
        """Each client, and the customer edge on its network."""
        edges = [node for node in self.nodes.values() if node.group == "map_ce"]
        clients = [node for node in self.nodes.values() if not node.group and not node.server]
        return {client.name: next(edge.name for edge in edges if edge.networks & client.networks)
                for client in clients}

    def management_of(self, node: Node) -> str:
        """The address Ansible uses for a managed node."""
        for interface in node.interfaces:
            if interface.network == self.management_network:
                return str(ipaddress.ip_interface(interface.addresses[0]).ip)
        raise LabError(f"topology {self.name}: nodes.{node.name} has a group, "
                       f"but no interface in {self.management_network}")


def load(name: str) -> Topology:
    """Read topologies/NAME.toml; LabError says what is wrong with it."""
    path = SOURCE / "topologies" / f"{name}.toml"
    if not path.exists():
        known = sorted(p.stem for p in path.parent.glob("*.toml"))
        raise LabError(f"no topology {name!r}; there is: {', '.join(known)}")
    return parse(name, path.read_text())


def parse(name: str, text: str) -> Topology:
    data = tomllib.loads(text)
    nodes = {}
    for number, (node, spec) in enumerate(data["nodes"].items(), 1):
        where = f"topology {name}: nodes.{node}"
        if unknown := set(spec) - {"group", "server", "suite", "networkd", "interfaces", "routes"}:
            raise LabError(f"{where}: unknown keys {sorted(unknown)}")
        suite = spec.get("suite", SUITES[0])
        if suite not in SUITES:
            raise LabError(f"{where}.suite: {suite!r} is not one of {', '.join(SUITES)}")
        interfaces = []
        for index, (ifname, values) in enumerate(spec["interfaces"].items(), 1):
            if values["network"] not in data["networks"]:
                raise LabError(f"{where}.interfaces.{ifname}: no network {values['network']!r}")
            if len(f"{node}.{ifname}") > 15:
                raise LabError(f"{where}.interfaces.{ifname}: "
                               f"{node}.{ifname} is longer than an interface name (15)")
            addresses = tuple(values.get("addresses", ()))
            for address in addresses:
                ipaddress.ip_interface(address)
            interfaces.append(Interface(
                ifname, values["network"], f"02:00:5e:00:{number:02x}:{index:02x}", addresses))
        nodes[node] = Node(node, spec.get("group"), spec.get("server", False),
                           suite, spec.get("networkd", False),
                           tuple(interfaces), tuple(spec.get("routes", ())))
        if nodes[node].networkd:
            check_networkd_routes(nodes[node], where)
    management = data["management"]
    return Topology(name, tuple(data["networks"]), management["network"],
                    management["address"], nodes)


def check_networkd_routes(node: Node, where: str) -> None:
    """Refuse routes that networkd_files has no words or no interface for."""
    networks = [ipaddress.ip_interface(address).network
                for interface in node.interfaces for address in interface.addresses]
    for route in node.routes:
        if " dev " in route:
            raise LabError(f"{where}.routes: {route!r}: for systemd-networkd only with gateways")
        if not any(gateways_of(route)[1][0] in network for network in networks):
            raise LabError(f"{where}.routes: {route!r}: no interface has a network with the gateway")


def node_files(node: Node, public_key: str) -> dict[str, str]:
    """What a node finds in /etc/lab: its interfaces, how to configure them, its part.

    An interface without an address stays down: it is the role's to configure.
    """
    files = {"interfaces": "".join(f"{i.name}\n" for i in node.interfaces)}
    lines = ["link set lo up"]
    if node.networkd:
        files |= networkd_files(node)
    else:
        for interface in node.interfaces:
            if interface.addresses:
                lines += [f"address replace {a} dev {interface.name}" for a in interface.addresses]
                lines.append(f"link set {interface.name} up")
        lines += [f"route replace {route}" for route in node.routes]
    files["ip.batch"] = "".join(f"{line}\n" for line in lines)
    if node.group:
        files["authorized_keys"] = public_key
    if node.server:
        files["server"] = ""
    return files


def networkd_files(node: Node) -> dict[str, str]:
    """The same for systemd-networkd: network/10-INTERFACE.network, as /etc/systemd/network takes them."""
    files = {}
    for interface in node.interfaces:
        if not interface.addresses:
            continue
        lines = ["[Match]", f"Name={interface.name}", "", "[Network]", "IPv6AcceptRA=no"]
        lines += [f"Address={address}" for address in interface.addresses]
        networks = [ipaddress.ip_interface(address).network for address in interface.addresses]
        for route in node.routes:
            destination, gateways = gateways_of(route)
            if any(gateways[0] in network for network in networks):
                if destination == "default":
                    destination = "::/0" if gateways[0].version == 6 else "0.0.0.0/0"
                key = "Gateway" if len(gateways) == 1 else "MultiPathRoute"
                lines += ["", "[Route]", f"Destination={destination}"]
                lines += [f"{key}={gateway}" for gateway in gateways]
        files[f"network/10-{interface.name}.network"] = "".join(f"{line}\n" for line in lines)
    return files


def gateways_of(route: str) -> tuple[str, list]:
    """The destination and the gateways of `DEST via A` or `DEST nexthop via A nexthop via B`."""
    destination, *words = route.split()
    gateways = [ipaddress.ip_address(word) for word in words if word not in ("nexthop", "via")]
    return destination, gateways


def container_command(engine: str, topology: Topology, node: Node, image: str,
                      modules: bool) -> list[str]:
    """The engine's argv that creates and starts a node, without any network yet.

    modules: whether the machine has /lib/modules to share, so that modprobe works inside.
    """
    argv = [engine, "run", "--detach", "--name", f"{LABEL}-{node.name}", "--hostname", node.name,
            "--label", f"{LABEL}={topology.name}", "--privileged", "--network", "none",
            "--stop-signal", "SIGRTMIN+3"]
    if engine == "podman":
        argv.append("--systemd=always")
    else:
        argv += ["--cgroupns=private", "--env", "container=docker",
                 "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp"]
    for sysctl in SYSCTLS:
        argv += ["--sysctl", sysctl]
    argv += ["--volume", f"{RUN}/nodes/{node.name}:/etc/lab:ro"]
    if modules:
        argv += ["--volume", "/lib/modules:/lib/modules:ro"]
    return [*argv, image, "/sbin/init"]


def bridge_lines(topology: Topology) -> list[str]:
    """`ip -batch` lines, run in the lab's namespace: a bridge per network.

    In a namespace of their own no firewall or bridge-netfilter rule of the machine sees
    the lab's traffic, and deleting the namespace deletes the networks.
    """
    lines = ["link set lo up"]
    for network in topology.networks:
        # no forward delay, no multicast snooping: a port works at once
        lines.append(f"link add name {network} type bridge forward_delay 0 mcast_snooping 0")
        lines.append(f"link set {network} up addrgenmode none")
    return lines


def plug_lines(node: Node, pid: int) -> tuple[list[str], list[str]]:
    """`ip -batch` lines that unplug (may fail) and plug in the node with this process id."""
    unplug, plug = [], []
    for interface in node.interfaces:
        port = f"{node.name}.{interface.name}"
        unplug.append(f"link delete {port}")
        plug.append(f"link add name {port} type veth peer name {interface.name} "
                    f"address {interface.mac} netns {pid}")
        plug.append(f"link set {port} master {interface.network} addrgenmode none up")
    return unplug, plug


def inventory(topology: Topology, key: Path, proxy: str | None) -> str:
    """An Ansible inventory (YAML) of the managed nodes.

    proxy: the shell command that connects stdin and stdout to %h:%p, or None.
    """
    common = ["-F none", "-o StrictHostKeyChecking=no", "-o UserKnownHostsFile=/dev/null",
              "-o LogLevel=ERROR", "-o ControlMaster=auto", "-o ControlPersist=600",
              # a router that forgot the connection, as after a power cut, would keep the play waiting
              "-o ServerAliveInterval=10", "-o ServerAliveCountMax=12"]
    if proxy:
        common.append(f"-o ProxyCommand='{proxy}'")
    variables = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": " ".join(common),
        "ansible_ssh_pipelining": True,
        "ansible_timeout": 60,  # until ssh answers, on an emulated CPU
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    groups: dict[str, list[Node]] = {}
    for node in topology.nodes.values():
        if node.group:
            groups.setdefault(node.group, []).append(node)
    lines = ["---", "all:", "  vars:"]
    lines += [f"    {key}: {json.dumps(value)}" for key, value in variables.items()]
    lines.append("  children:")
    for group, nodes in groups.items():
        lines += [f"    {group}:", "      hosts:"]
        for node in nodes:
            lines += [f"        {node.name}:",
                      f"          ansible_host: {topology.management_of(node)}"]
    return "\n".join(lines) + "\n"
