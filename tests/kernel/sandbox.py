# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A machine of its own: main network namespace, process 1, /run, /sys and /var/log. Root is needed, and no kernel module.

Jool and modprobe are scripts that write down how they were called; another device takes the place of a tunnel, which needs a module.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from namespaces import network_namespace

from ansible_collections.softwire.map.plugins.module_utils.routers import bpf_rule
from ansible_collections.softwire.map.plugins.module_utils.softwire import info
from ansible_collections.softwire.map.plugins.module_utils.softwire.generations import Instance
from ansible_collections.softwire.map.plugins.module_utils.softwire.rollback import Transaction

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
UNIT = Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "routers" / "units" / "softwire@.service"
STEPS = ("ip", "nft", "tc", "bpftool", "mount", "sysctl", "jool_siit", "networkctl")
FAKE = """#!/bin/sh
case "$*" in *" display" | *" display --csv") exit ;; esac
echo "$(readlink /proc/self/ns/net) ${0##*/} $*" >> DIRECTORY/calls
"""
FAKE_TUNNEL = """#!/bin/sh
case "$*" in
*"-batch -")
    batch=$(cat)
    echo "$batch" | grep 'type ip6tnl' >> DIRECTORY/tunnels
    echo "$batch" | sed 's/type ip6tnl.*/type TUNNEL/' | REAL_IP "$@" ;;
*) exec REAL_IP "$@" ;;
esac
"""
# A bridge has Ethernet's headers, of which the NAPT's programs have to know: the 33rd word is the byte of their flags.
FAKE_BPFTOOL = """#!/bin/sh
case "$*" in
"map update pinned "*"/napt/maps/config key hex "*)
    number=0 line=
    for word; do
        number=$((number + 1))
        [ $number != 33 ] || word=$(printf %02x $((0x$word | ETHERNET)))
        line="$line $word"
    done
    exec REAL_BPFTOOL $line ;;
*) exec REAL_BPFTOOL "$@" ;;
esac
"""
# A systemd-networkd that has configured isp, and knows of our files only what the tests look at.
FAKE_NETWORKCTL = """#!/bin/sh
echo "$*" >> DIRECTORY/networkctl
files=/run/systemd/network
case "$*" in
*status*isp) echo "           Network File: /etc/systemd/network/10-isp.network" ;;
*status*) ls $files/*.netdev >/dev/null 2>&1 && echo "                  State: routable (configured)" ;;
reload)
    ip -6 addr flush dev isp scope global deprecated
    for file in $files/*.netdev; do
        if [ -e "$file" ]; then ip link add "$(sed -n s/^Name=//p "$file")" type bridge; fi
    done
    for file in $files/10-isp.network.d/*.conf; do
        if [ -e "$file" ]; then ip addr add "$(sed -n s/^Address=//p "$file")" dev isp nodad preferred_lft 0; fi
    done ;;
esac
"""
# Counts the steps of the runner (what it looks at is none), and makes step number $FAULT_AT fail, or kills the runner right after it.
STEP = """#!/bin/sh
name=${0##*/}
PATH=DIRECTORY/fakes:SYSTEM_PATH
if [ -n "$INSIDE" ]; then exec "$name" "$@"; fi
case "$name $*" in
"nft -j list "* | "ip -j "* | "ip -"?" "*" show "* | "tc -j "* | "ip xfrm "* | *" display" | *" display --csv" | "bpftool -j map dump "*) exec "$name" "$@" ;;
esac
echo "$name $*" >> DIRECTORY/steps
number=$(wc -l < DIRECTORY/steps)
if [ "$number" = "$FAULT_AT" ] && [ "$FAULT" = fail ]; then echo "broken on purpose" >&2; exit 1; fi
export INSIDE=1
"$name" "$@"
code=$?
if [ "$number" = "$FAULT_AT" ] && [ "$FAULT" = kill ]; then kill -9 $PPID; fi
exit $code
"""
# Everything that an instance may touch. IPv6 neighbours other than proxies come and go by themselves.
SNAPSHOT = """
ip -d addr | sed 's/ \\(qdisc\\|state\\) [^ ]*//g'
for family in -4 -6; do
    ip $family route show table all; ip $family rule; ip $family neigh show proxy; ip $family neigh show nud permanent
done
nft list ruleset
tc qdisc show; for link in isp lan; do tc filter show dev $link ingress 2>&1; done
ls -d /run/netns/* /run/softwire/*/journal 2>&1
grep -E ' /run/(softwire|netns/)' /proc/self/mounts
cd /proc/sys/net; grep . ipv[46]/conf/*/accept_r[ae]* ipv[46]/conf/*/forwarding ipv4/conf/*/rp_filter ipv6/conf/*/proxy_ndp
"""


class Sandbox:
    """Runs commands in namespaces of its own, which end with it. tunnel: what "ip link" makes in the place of an ip6tnl, and its options."""

    def __init__(self, directory, tunnel="bridge mcast_snooping 0"):
        self.directory, self.tunnel = directory, tunnel
        # Process 1 waits for the end of its input: it does not outlive the tests.
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private",
             # The namespaces of others are mounts, too, which would come and go in a snapshot.
             "sh", "-c", "umount -R -l /run/netns 2>/dev/null; mount -t sysfs sysfs /sys && mount -t tmpfs tmpfs /run && "
                         "mount -t tmpfs tmpfs /var/log && echo ready && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "ready\n", f"needs root and namespaces: {self.holder.stderr.read()}"
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text(encoding="ascii")
        self.process = children.split()[0]
        self.main = os.readlink(f"/proc/{self.process}/ns/net")
        self._write_tools()
        # A duplicate address check would make the addresses change by themselves while a test looks at them.
        self.sh("cd /proc/sys/net/ipv6/conf; for key in all default; do echo 0 > $key/accept_dad; done; ip link set lo up")
        # A tunnel has its programs in front of prerouting; so has a bridge where its own packets take no netfilter hooks.
        self.sh("for key in /proc/sys/net/bridge/bridge-nf-call-ip*tables; do if [ -e $key ]; then echo 0 > $key; fi; done")

    def close(self):
        self.holder.kill()
        self.holder.wait()
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.stderr.close()

    def _write_tools(self):
        real = {name: shutil.which(name, path=SYSTEM_PATH) or name for name in ("ip", "bpftool")}
        placeholders = (("DIRECTORY", str(self.directory)), ("SYSTEM_PATH", SYSTEM_PATH), ("REAL_IP", real["ip"]), ("REAL_BPFTOOL", real["bpftool"]),
                        ("TUNNEL", self.tunnel), ("ETHERNET", str(bpf_rule.NAPT_ETHERNET)))
        for folder, names, text in (
            ("fakes", ("jool_siit", "jool_mapt", "modprobe"), FAKE), ("fakes", ("ip",), FAKE_TUNNEL),
            ("fakes", ("networkctl",), FAKE_NETWORKCTL), ("steps.d", STEPS, STEP),
            *([("fakes", ("bpftool",), FAKE_BPFTOOL)] if self.tunnel.startswith("bridge") else []),
        ):
            (self.directory / folder).mkdir(exist_ok=True)
            for name in names:
                script = self.directory / folder / name
                for placeholder, value in placeholders:
                    text = text.replace(placeholder, value)
                script.write_text(text)
                script.chmod(0o755)

    def run(self, *command, check=True, tools=("fakes",), **environment):
        path = ":".join([*(str(self.directory / folder) for folder in tools), SYSTEM_PATH])
        done = subprocess.run(
            ["nsenter", "-t", self.process, "-n", "-m", "-p", *map(str, command)],
            capture_output=True, text=True, timeout=60, check=False, env={"PATH": path, "LC_ALL": "C.UTF-8", **environment})
        assert not check or done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def inside(self, namespace="main"):
        """A context in the machine's main network namespace, or in a named one."""
        return network_namespace(f"/proc/{self.process}/" + ("ns/net" if namespace == "main" else f"root/run/netns/{namespace}"))

    def sh(self, script):
        return self.run("sh", "-ec", script).stdout

    def snapshot(self):
        """The state of the main namespace, as sorted lines (nftables and tc print in the order of their making)."""
        text = self.run("sh", "-c", SNAPSHOT).stdout
        changing = re.compile(r"\b(index|handle|id|tag|jited|expires|packets|bytes|\w+_timer) +\S+")
        return sorted(changing.sub("", line).rstrip() for line in text.splitlines())

    def install(self, files, name="test"):
        """Writes a generation of an instance and makes it the current one, as the module deploy does; returns its directory."""
        files = {path: text.encode() if isinstance(text, str) else text for path, text in files.items()}
        instance = Instance(name, self.directory)
        generation = instance.next_name(files)
        instance.finish(instance.stage(files, generation), generation)
        Transaction(instance).switch(generation)
        return instance.current

    def softwire(self, generation, action, check=True, fault=None, at=0, python="python3", program=("-m", "softwire")):
        """Runs the runner of a generation, with the rights it has in its unit. fault "fail" or "kill" strikes at step number `at`."""
        (self.directory / "steps").write_text("")
        tools = ("steps.d", "fakes") if fault else ("fakes",)
        environment = {"FAULT": fault, "FAULT_AT": str(at)} if fault else {}
        rights = re.search("^CapabilityBoundingSet=(.*)", UNIT.read_text(encoding="utf-8"), re.MULTILINE)[1]
        confined = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all,+" + rights.lower().replace("cap_", "").replace(" ", ",+")]
        return self.run(*confined, "env", "-C", generation, python, "-BES", *program, action, check=check, tools=tools, **environment)

    def program_counters(self, generation):
        """{name: packets} of the programs of a generation."""
        bpf = json.loads((generation / "parameters.json").read_text())["bpf"]
        return info.programs(bpf, lambda command: self.run(*command).stdout)

    def steps(self):
        return (self.directory / "steps").read_text().splitlines()

    def calls(self):
        """What the fake tools were called with: a list of (network namespace, words)."""
        path = self.directory / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(line.split(" ", 1)[0], line.split()[1:]) for line in lines]

    def tunnels(self):
        """The lines of "ip -batch" that made a tunnel."""
        path = self.directory / "tunnels"
        return path.read_text().splitlines() if path.exists() else []

    def namespace(self, name):
        """The identity of a named namespace, as calls() has it."""
        return self.run("ip", "netns", "exec", name, "readlink", "/proc/self/ns/net").stdout.strip()
