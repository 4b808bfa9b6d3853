# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the preflight says about routers that cannot run a generation."""

from __future__ import annotations

import json

import role_variables
import pytest

from ansible_collections.softwire.map.plugins.module_utils.softwire import login, preflight


class Machine:
    """A router that has everything, with changes."""

    def __init__(self, **changes):
        self.release = {"ID": "debian", "VERSION_ID": "12"}
        self.kernel = "6.1.0-18-amd64"
        self.links = {"lo": link(), "isp": link(), "lan": link("192.168.0.1/24")}
        self.without = set()
        self.namespaces = set()
        self.secure = False
        self.headers = True
        self.headers_to_come = []
        vars(self).update(changes)

    def has_command(self, name):
        return name not in self.without

    def has_module(self, name):
        return f"module {name}" not in self.without

    def has_bpf(self):
        return "BPF" not in self.without

    def has_namespace(self, name):
        return name in self.namespaces

    def secure_boot(self):
        return self.secure

    def headers_installed(self):
        return self.headers

    def headers_of_next(self):
        return self.headers_to_come


def link(*addresses, kind=None, master=None, mtu=1500, dynamic=False):
    made = {"mtu": mtu, "flags": ["UP"], "addr_info": []}
    for text in addresses:
        local, length = text.split("/")
        scope = "link" if local.startswith("fe80") else "global"
        made["addr_info"].append({"local": local, "prefixlen": int(length), "scope": scope, **({"dynamic": True} if dynamic else {})})
    if kind:
        made["linkinfo"] = {"info_kind": kind}
    if master:
        made["master"] = master
    return made


def settings(layout="napt_namespace", translator="jool_siit", **changes):
    files = role_variables.ce_generations(napt_namespace=role_variables.LAYOUTS[layout], **changes)[translator]
    return json.loads(files["instance.json"])


@pytest.fixture(autouse=True)
def no_connection(monkeypatch):
    monkeypatch.setattr(preflight, "connection_address", lambda: None)
    monkeypatch.setattr(preflight, "links", lambda prefix: {})


def interface_faults(machine, wanted=None, ours=()):
    return preflight.interface_faults(machine, wanted or settings(), ours)


def test_a_good_router_has_no_faults():
    machine = Machine()
    assert preflight.distribution_fault(machine) is None
    assert preflight.kernel_fault(machine, "5.10") is None
    assert interface_faults(machine) == []
    assert preflight.missing(machine, settings()) == ([], [])
    assert preflight.namespace_faults(machine, settings(), []) == []


@pytest.mark.parametrize("name, version, fault", [
    ("debian", "12", None), ("debian", "13", None), ("ubuntu", "22.04", None), ("ubuntu", "24.10", None), ("debian", "", None),
    ("debian", "11", "distribution debian 11: too old; supported are debian 12 (bookworm) or later, ubuntu 22.04 or later"),
    ("ubuntu", "20.04", "distribution ubuntu 20.04: too old"),
    ("fedora", "41", "distribution 'fedora': not supported; supported are debian"),
])
def test_distributions(name, version, fault):
    said = preflight.distribution_fault(Machine(release={"ID": name, "VERSION_ID": version}))
    assert (said is None) if fault is None else said.startswith(fault)


def test_a_release_without_a_name():
    assert "'unknown': not supported" in preflight.distribution_fault(Machine(release={}))


def test_os_release():
    text = '# comment\nID=debian\nVERSION_ID="12"\nPRETTY_NAME=\'Debian = fine\'\n\n'
    assert preflight.os_release(text) == {"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": "Debian = fine"}


@pytest.mark.parametrize("kernel, minimum, good", [
    ("5.10.0-28-amd64", "5.10", True), ("5.9.16", "5.10", False), ("6.1", "5.19", True), ("5.15.0-1053-kvm", "5.19", False),
    ("6.18.44-fc-v669", "5.19", True), ("5.19+", "5.19", True), ("6.1-rc3", "5.19", True), ("4.19.0", "5.10", False),
])
def test_kernels(kernel, minimum, good):
    fault = preflight.kernel_fault(Machine(kernel=kernel), minimum)
    assert (fault is None) is good
    assert good or fault == f"kernel {kernel}: older than {minimum}, which this needs; install a newer kernel"


@pytest.mark.parametrize("links, fault", [
    ({"lan": link("192.168.0.1/24"), "lo": link()},
     "map_ce_wan_interface: isp: this router has no such network interface; it has lan"),
    ({"isp": link(mtu=1492), "lan": link()}, "map_ce_wan_interface: isp: its MTU is 1492, less than map_ce_wan_mtu: 1500"),
    ({"isp": link(), "lan": link(kind="bridge")}, "map_ce_lan_interfaces[0]: lan: it is a bridge, which cannot be moved"),
    ({"isp": link(), "lan": link(master="br0")}, "map_ce_lan_interfaces[0]: lan: it is a port of br0: moving it would take it out"),
    ({"isp": link(), "lan": link("192.168.0.1/24", "10.0.0.1/8")},
     "map_ce_lan_interfaces[0]: lan: moving it would lose its address 10.0.0.1/8; list it in map_ce_lan_addresses"),
    ({"isp": link()}, "map_ce_lan_interfaces[0]: lan: this router has no such network interface; it has isp"),
])
def test_interfaces(links, fault):
    faults = interface_faults(Machine(links=links))
    assert len(faults) == 1 and faults[0].startswith(fault), faults


def test_advice_names_the_other_layout():
    fault, = interface_faults(Machine(links={"isp": link(), "lan": link(kind="bridge")}))
    assert fault.endswith('use the other layout (map_ce_napt_namespace: ""), which moves no interface')


def test_the_other_layout_moves_nothing():
    links = {"isp": link(), "lan": link("10.0.0.1/8", kind="bridge", master="br1")}
    assert interface_faults(Machine(links=links), settings("translator_namespace")) == []


def test_wifi(monkeypatch):
    exists = preflight.Path.exists
    monkeypatch.setattr(preflight.Path, "exists", lambda path: str(path) == "/sys/class/net/lan/phy80211" or exists(path))
    fault, = interface_faults(Machine())
    assert "lan: it is a Wi-Fi interface, which cannot be moved alone" in fault


@pytest.mark.parametrize("connection, addresses", [
    ("192.168.0.1", ["192.168.0.1/24"]), ("2001:db8::1", ["2001:db8::1/64"]), ("fe80::5%lan", ["fe80::5/64"])])
def test_the_connection_of_the_play(connection, addresses, monkeypatch):
    monkeypatch.setattr(preflight, "connection_address", lambda: connection)
    faults = interface_faults(Machine(links={"isp": link(), "lan": link(*addresses)}))
    assert len(faults) == 1 and f"lan: it carries this connection ({connection}): moving it would cut the play off" in faults[0]
    elsewhere = {"isp": link(*addresses), "lan": link()}
    monkeypatch.setattr(preflight, "connection_address", lambda: connection.replace("lan", "isp"))
    assert not any("connection" in fault for fault in interface_faults(Machine(links=elsewhere)))


def test_addresses_that_come_back_by_themselves_may_be_lost():
    links = {"isp": link(), "lan": {**link("2001:db8::5/64", dynamic=True)}}
    links["lan"]["addr_info"].append({"local": "fe80::1", "prefixlen": 64, "scope": "link"})
    assert interface_faults(Machine(links=links)) == []


def test_an_interface_that_is_where_it_belongs(monkeypatch):
    """A second run finds the LAN in the namespace, and so does one that changes the layout or the namespace's name."""
    inside = {"-n napt": {"lan": link("10.0.0.1/8", kind="bridge")}}
    monkeypatch.setattr(preflight, "links", lambda prefix: inside.get(" ".join(prefix), {}))
    machine = Machine(links={"isp": link()})
    for wanted in (settings(), settings("translator_namespace"), settings(**{"wan_gateway": ""})):
        assert interface_faults(machine, wanted, ["napt"]) == []
        assert "no such network interface" in interface_faults(machine, wanted, [])[0]


def test_interfaces_cannot_be_judged_without_the_command(monkeypatch):
    machine = Machine(without={"ip"}, links={})
    assert interface_faults(machine) == [] and preflight.missing(machine, settings())[0] == ["iproute2"]
    monkeypatch.undo()
    monkeypatch.setattr(preflight.shutil, "which", lambda name, path: None)
    assert preflight.Machine().links == {}


def test_namespaces_of_others():
    machine = Machine(namespaces={"napt", "mine"})
    assert preflight.namespace_faults(machine, settings(), []) == [
        "map_ce_napt_namespace: napt: a network namespace of this name exists and is not ours; choose another name or remove it"]
    assert preflight.namespace_faults(machine, settings(), ["napt"]) == []


@pytest.mark.parametrize("without, packages", [
    ({"nft"}, ["nftables"]), ({"sysctl", "ip"}, ["iproute2", "procps"]), ({"jool_siit"}, ["jool-tools"]),
    ({"module jool_siit"}, ["jool-dkms"]), ({"jool_siit", "module jool_siit"}, ["jool-dkms", "jool-tools"]),
])
def test_missing_packages(without, packages):
    assert preflight.missing(Machine(without=without), settings()) == (packages, [])


def test_headers_of_the_running_kernel():
    machine = Machine(without={"module jool_siit"}, headers=False)
    assert preflight.missing(machine, settings())[0] == ["jool-dkms", "linux-headers-6.1.0-18-amd64"]
    assert preflight.missing(Machine(headers=False), settings()) == ([], [])


def test_headers_of_the_kernels_to_come():
    machine = Machine(without={"module jool_siit"}, headers=False, headers_to_come=["linux-headers-amd64"])
    assert preflight.missing(machine, settings())[0] == ["jool-dkms", "linux-headers-6.1.0-18-amd64", "linux-headers-amd64"]
    assert preflight.missing(Machine(headers_to_come=["linux-headers-amd64"]), settings()) == ([], [])


IMAGES = {
    "Debian": ("""\
installed linux-image-6.1.0-27-amd64 kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb11u2) | linux-initramfs-tool
installed linux-image-6.1.0-28-amd64 kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb11u2) | linux-initramfs-tool
installed linux-image-amd64 linux-image-6.1.0-28-amd64 (= 6.1.119-1)
config-files linux-image-rt-amd64 linux-image-6.1.0-20-rt-amd64 (= 6.1.85-1)
""", ["linux-headers-amd64"]),
    "Ubuntu": ("""\
installed linux-image-6.8.0-45-generic kmod, linux-base (>= 4.5ubuntu1~16.04.1), linux-modules-6.8.0-45-generic
installed linux-image-generic-hwe-22.04 linux-image-6.8.0-45-generic, linux-modules-extra-6.8.0-45-generic, linux-firmware, intel-microcode
not-installed linux-image-unsigned-6.8.0-45-generic \n""", ["linux-headers-generic-hwe-22.04"]),
    "a kernel from elsewhere": ("", []),
}


@pytest.mark.parametrize("images", IMAGES)
def test_which_headers_come_with_the_next_kernel(tmp_path, monkeypatch, images):
    listed, expected = IMAGES[images]
    (tmp_path / "listed").write_text(listed)
    # As the real one it fails where a pattern has no match.
    (tmp_path / "dpkg-query").write_text(f"#!/bin/sh\ncat {tmp_path}/listed; exit {0 if listed else 1}\n")
    (tmp_path / "dpkg-query").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(preflight.Machine, "has_command", lambda _machine, name: name != "ip")
    assert preflight.Machine().headers_of_next() == expected


def test_secure_boot_matters_where_dkms_has_to_build():
    packages, faults = preflight.missing(Machine(without={"module jool_siit"}, secure=True), settings())
    assert packages == ["jool-dkms"]
    assert len(faults) == 1 and "Secure Boot refuses modules that DKMS builds unsigned" in faults[0] and "mokutil" in faults[0]
    assert preflight.missing(Machine(secure=True), settings()) == ([], [])


def test_jool_mapt_is_in_no_distribution():
    packages, faults = preflight.missing(Machine(without={"jool_mapt", "module jool_mapt"}), settings(translator="jool_mapt"))
    assert packages == []
    assert faults == [f"{kind} jool_mapt: missing; distributions do not package it: install Jool 4.2 from upstream's packages"
                      for kind in ("command", "kernel module")]


def test_every_command_and_module_has_a_package_or_a_reason():
    wanted = [settings(translator=name) for name in ("jool_siit", "jool_mapt")]
    wanted += [json.loads(files["instance.json"]) for files in role_variables.br_generations().values()]
    for entry in wanted:
        assert set(entry["commands"]) <= set(preflight.PACKAGE_OF_COMMAND) | set(preflight.PACKAGED_ELSEWHERE)
        assert set(entry["kernel_modules"]) <= set(preflight.PACKAGE_OF_MODULE) | set(preflight.PACKAGED_ELSEWHERE)


def test_the_connection_is_found_behind_sudo(monkeypatch, tmp_path):
    """Process 30 is sudo's child without the variable; 20 is its parent, started by sshd."""
    monkeypatch.undo()
    processes = {30: (b"PATH=/bin\0", 20), 20: (b"A=1\0SSH_CONNECTION=2001:db8::9 50000 2001:db8::1 22\0", 1)}

    class Proc:
        def __init__(self, path):
            _empty, _proc, number, self.name = path.split("/")
            self.environment, self.parent = processes[int(number)]

        def read_bytes(self):
            return self.environment

        def read_text(self):
            return f"Name:\tx\nPPid:\t{self.parent}\nUid:\t0\n"

    monkeypatch.setattr(login, "Path", Proc)
    monkeypatch.setattr(login.os, "getpid", lambda: 30)
    assert preflight.connection_address() == "2001:db8::1"
    processes[20] = (b"", 1)
    assert preflight.connection_address() is None


RELAYS = {"map-t": {"translator": "jool_siit"}, "map-e": {"domains": [role_variables.MAPE_CASES["shared"]["domain"]]}}


@pytest.mark.parametrize("transport", RELAYS)
def test_a_kernel_without_bpf_is_no_router(transport):
    files, = role_variables.br_generations(**RELAYS[transport]).values()
    wanted = json.loads(files["instance.json"])
    assert preflight.missing(Machine(), wanted) == ([], [])
    for each in (wanted, settings()):
        packages, (fault,) = preflight.missing(Machine(without={"BPF"}), each)
        assert packages == [] and fault.startswith("BPF: this kernel is built without it")


def test_a_kernel_without_the_tunnel_module():
    files, = role_variables.ce_generations(**role_variables.MAPE_CASES["shared"]).values()
    packages, (fault,) = preflight.missing(Machine(without={"module ip6_tunnel"}), json.loads(files["instance.json"]))
    assert packages == [] and fault == "kernel module ip6_tunnel: missing; this kernel does not have it"


def test_networkd_has_to_configure_the_wan(monkeypatch):
    files, = role_variables.ce_generations(**role_variables.MAPE_CASES["shared"], napt_namespace="", network_backend="networkd").values()
    wanted = json.loads(files["instance.json"])
    monkeypatch.setattr(preflight.networkd, "file_of", {"isp": "/etc/systemd/network/10-isp.network"}.get)
    assert preflight.networkd_faults(wanted) == [] and preflight.networkd_faults(settings()) == []
    monkeypatch.setattr(preflight.networkd, "file_of", lambda interface: None)
    fault, = preflight.networkd_faults(wanted)
    assert fault.startswith("map_ce_network_backend: networkd: systemd-networkd does not configure isp ")
