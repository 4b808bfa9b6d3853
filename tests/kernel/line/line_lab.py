# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A line, and the router at its end: server eth0 -- eth0 client, a LAN, the watcher with the rights of its unit, and a DHCPv6 client."""

from __future__ import annotations

import json
import re
import shutil

from dhcpv6_lab import Lab, run, wait

from ansible_collections.softwire.map.plugins.module_utils.routers import render

UNIT = render.HERE / "units" / "softwire-line@.service"
HOOK = render.HERE / "hooks" / "softwire-line"
NOBODY = "65534"
# The machine's own /run, /var/lib and /tmp are not seen; /run is one for all programs of the router. What lies in the test's
# directory has to be open before /tmp is covered.
ROUTER = """set -e
mount --bind DIRECTORY/run /run
mount -t tmpfs none /var/lib
mkdir -p /var/lib/dhcpcd
[ "${0##*/}" != systemd-networkd ] || {
    mount -o remount,bind,ro /sys
    mount --bind DIRECTORY/network /etc/systemd/network
    mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
    chown -R systemd-network:systemd-network /run/systemd/netif
    cp "$0" /run/networkd; set -- /run/networkd "$@"; mount -t tmpfs none /tmp; exec "$@"
}
exec "$0" "$@"
"""
NETWORKD = {
    "wan.network": """[Match]
Name=eth0
[Network]
IPv6AcceptRA=yes
DHCP=ipv6
LinkLocalAddressing=ipv6
[DHCPv6]
WithoutRA=solicit
RequestOptions=94 95 111
[IPv6AcceptRA]
DHCPv6Client=always
""",
    "lan.network": """[Match]
Name=lan
[Network]
IPv6SendRA=no
DHCPPrefixDelegation=yes
ConfigureWithoutCarrier=yes
[DHCPPrefixDelegation]
UplinkInterface=eth0
SubnetId=1
Token=::1
""",
}
DHCPCD = """duid
allowinterfaces eth0 lan
nodev
noipv4
define6 94 binhex s46_cont_mape
define6 95 binhex s46_cont_mapt
define6 111 array uint16 s46_priority
option dhcp6_s46_cont_mape, dhcp6_s46_cont_mapt, dhcp6_s46_priority
interface lan
    noipv6rs
interface eth0
    ipv6rs
    ia_pd 1 lan/1
"""
DHCLIENT = """option dhcp6.mape code 94 = string;
option dhcp6.mapt code 95 = string;
option dhcp6.priority code 111 = string;
also request dhcp6.mape, dhcp6.mapt, dhcp6.priority;
"""
# dhclient-script, as far as it goes without the machine's own files: its end, which reads the hooks.
SCRIPT = """#!/bin/sh
PATH=DIRECTORY/bin:$PATH
. HOOK
"""
SYSTEMCTL = """#!/bin/sh
echo "$*" >> DIRECTORY/systemctl
kill -HUP "$(cat DIRECTORY/run/watcher.pid)"
"""
WATCHER = """echo $$ > /run/watcher.pid; cd /run/etc/ce/current
exec setpriv --reuid NOBODY --regid NOBODY --clear-groups RIGHTS /usr/bin/python3 -B -m softwire line
"""


class Line(Lab):
    """The router's program and its generation lie in a directory that everybody can read, as on a router."""

    def __init__(self, directory):
        super().__init__(directory)
        self.wire = None
        for part in ("run", "run/etc/ce/generations", "run/softwire-line/ce", "network", "bin"):
            (directory / part).mkdir(parents=True)
        for name, text in NETWORKD.items():
            (directory / "network" / name).write_text(text)
        shutil.chown(directory / "run/softwire-line/ce", int(NOBODY), int(NOBODY))
        self.switch("0001-aaaa")
        run("ip", "-n", self.client, "link", "add", "lan", "type", "veth", "peer", "name", "host")
        for link in ("lan", "host"):
            run("ip", "-n", self.client, "link", "set", link, "up")
        # A router forwards, and takes router advertisements all the same.
        run("ip", "netns", "exec", self.client, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1", "net.ipv6.conf.eth0.accept_ra=2")
        run("ip", "netns", "exec", self.server, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")

    def switch(self, generation):
        """Makes a generation the current one."""
        instance = self.directory / "run/etc/ce"
        made = instance / "generations" / generation
        shutil.copytree(render.HERE.parent / "softwire", made / "softwire", ignore=shutil.ignore_patterns("__pycache__"))
        (made / "parameters.json").write_text(json.dumps({"wan": {"interface": "eth0"}}))
        (instance / "next").symlink_to(made.relative_to(instance))
        (instance / "next").rename(instance / "current")

    def start_on_router(self, program, *arguments):
        return self.start(self.client, program, *arguments, private=ROUTER.replace("DIRECTORY", str(self.directory)))

    def watch(self):
        rights = re.search("^CapabilityBoundingSet=(.*)", UNIT.read_text(encoding="utf-8"), re.MULTILINE)[1].lower().replace("cap_", "+")
        confined = f"--no-new-privs --inh-caps=-all,{rights} --ambient-caps=-all,{rights} --bounding-set=-all,{rights}"
        script = WATCHER.replace("NOBODY", NOBODY).replace("RIGHTS", confined)
        self.watcher, self.watcher_log = self.start_on_router("sh", "-c", script)
        self.until(lambda line: True)
        return self.watcher

    @property
    def watcher_pid(self):
        return int((self.directory / "run/watcher.pid").read_text())

    def line(self):
        """What line.json has; {} where it is not there."""
        path = self.directory / "run/softwire-line/ce/line.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def until(self, what):
        """Waits until what(line.json) is true, and returns what is there then."""
        wait(lambda: (line := self.line()) and what(line), lambda: f"{json.dumps(self.line(), indent=1)}\n{self.watcher_log.read_text()}")
        return self.line()

    def connect(self, client):
        """Starts a DHCPv6 client that asks for a prefix, and for the softwire."""
        return getattr(self, f"connect_{client}")()

    def connect_networkd(self):
        return self.start_on_router("systemd-networkd")[0]

    def connect_dhcpcd(self):
        (self.directory / "dhcpcd.conf").write_text(DHCPCD)
        return self.start_on_router("dhcpcd", "-6", "-B", "-d", "-c", "/bin/true", "-f", self.directory / "dhcpcd.conf")[0]

    def connect_dhclient(self):
        (self.directory / "dhclient.conf").write_text(DHCLIENT)
        for path, text in ((self.directory / "script", SCRIPT), (self.directory / "bin/systemctl", SYSTEMCTL)):
            path.write_text(text.replace("DIRECTORY", str(self.directory)).replace("HOOK", str(HOOK)))
            path.chmod(0o755)
        files = {"-cf": "dhclient.conf", "-lf": "leases", "-pf": "pid", "-sf": "script"}
        arguments = [word for option, name in files.items() for word in (option, self.directory / name)]
        return self.start_on_router("dhclient", "-6", "-P", "-d", "-v", *arguments, "eth0")[0]
