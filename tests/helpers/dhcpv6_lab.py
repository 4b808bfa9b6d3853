# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A DHCPv6 server and a client, each in a network namespace, joined by a veth pair: server eth0 -- eth0 client."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

SECONDS = 90  # for a busy machine
# A mount namespace per command, so that nothing of the machine's own server is read or written.
PRIVATE = 'mount -t tmpfs none /run && mount -t tmpfs none /var/lib && mkdir -p /run/kea /run/lock/kea /var/lib/kea && exec "$0" "$@"'
CLIENT_CONFIGURATION = "option dhcp6.softwire code CODE = string;\nrequest dhcp6.softwire;\n"
SCRIPT = '#!/bin/sh\nenv > "DIRECTORY/$reason.part" && mv "DIRECTORY/$reason.part" "DIRECTORY/$reason"\n'


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def wait(what, failure):
    """Waits until what() is true; failure: a function that gives the text to fail with."""
    for _attempt in range(SECONDS * 10):
        if what():
            return
        time.sleep(0.1)
    raise AssertionError(f"nothing after {SECONDS} s: {failure()}")


class Lab:
    """Two namespaces and what runs in them; `directory` holds their files."""

    def __init__(self, directory):
        self.directory = directory
        self.running = []
        self.server, self.client = (f"dhcpv6-{os.getpid()}-{role}" for role in ("server", "client"))
        try:
            for name in (self.server, self.client):
                run("ip", "netns", "add", name)
                # Without duplicate address detection the link-local addresses are usable at once.
                settings = [f"net.ipv6.conf.{which}.accept_dad=0" for which in ("all", "default")]
                run("ip", "netns", "exec", name, "sysctl", "-q", "-w", *settings)
                run("ip", "-n", name, "link", "set", "lo", "up")
            self.join()
        except BaseException:
            self.close()
            raise

    def join(self):
        """Makes the link between the two."""
        run("ip", "-n", self.server, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.client)
        for name in (self.server, self.client):
            run("ip", "-n", name, "link", "set", "eth0", "up")
        run("ip", "-n", self.server, "address", "add", "2001:db8:6::1/64", "dev", "eth0")
        for name in (self.server, self.client):
            # The kernel adds it a moment after both ends are up.
            link_local = ("ip", "-n", name, "-6", "address", "show", "dev", "eth0", "scope", "link")
            wait(lambda command=link_local: "fe80:" in run(*command), lambda: "no link-local address")

    def close(self):
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait()
        for name in (self.server, self.client):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)

    def start(self, namespace, program, *arguments, private=PRIVATE):
        """Starts a program; returns (process, the file of what it prints). private: a script that makes its mounts, and then executes it."""
        # A copy, since AppArmor's profiles go by path and would keep the program from the files of the test.
        copy = self.directory / program
        if not copy.exists():
            shutil.copy(shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin:/lib/systemd"), copy)
        log = self.directory / f"{program}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, "sh", "-c", private, copy, *arguments], stdout=output, stderr=subprocess.STDOUT)
        self.running.append(process)
        return process, log

    def stop(self, process, signal=signal.SIGTERM):
        """Ends a program."""
        self.running.remove(process)
        process.send_signal(signal)
        process.wait()

    def wait(self, what, process, log):
        """Waits until what() is true, and for no program that has ended."""
        wait(lambda: what() or process.poll() is not None, log.read_text)
        assert what(), log.read_text()

    def serve_kea(self, configuration):
        path = self.directory / "kea.json"
        path.write_text(configuration)
        process, log = self.start(self.server, "kea-dhcp6", "-c", path)
        self.wait(lambda: "DHCP6_STARTED" in log.read_text(), process, log)
        return process

    def serve_dnsmasq(self, configuration):
        path = self.directory / "dnsmasq.conf"
        path.write_text(configuration)
        # --port=0: no DNS; the rest keeps it in the foreground and its files away.
        process, log = self.start(self.server, "dnsmasq", f"--conf-file={path}", "--port=0", "--keep-in-foreground",
                                  "--log-facility=-", "--pid-file=", "--user=root", "--leasefile-ro")
        self.wait(lambda: "DHCPv6" in log.read_text(), process, log)
        return process

    def ask(self, code, wanted, reason):
        """What the client's script gets: {variable: value}. wanted: "-P" (a prefix) or "-S" (options alone)."""
        (self.directory / "dhclient.conf").write_text(CLIENT_CONFIGURATION.replace("CODE", str(code)))
        script = self.directory / "script"
        script.write_text(SCRIPT.replace("DIRECTORY", str(self.directory)))
        script.chmod(0o755)
        files = {"-cf": "dhclient.conf", "-lf": "leases", "-pf": "pid", "-sf": "script"}
        arguments = [word for option, name in files.items() for word in (option, self.directory / name)]
        process, log = self.start(self.client, "dhclient", "-6", wanted, "-d", "-v", *arguments, "eth0")
        result = Path(self.directory, reason)
        self.wait(result.exists, process, log)
        return dict(line.split("=", 1) for line in result.read_text().splitlines() if "=" in line)
