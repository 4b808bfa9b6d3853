"""Runs of ansible-playbook on the lab's routers."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[3]
INVENTORIES = [ROOT / "molecule/faults/inventory.yml", ROOT / "molecule/resources/lab.yml"]
PATIENCE = 300  # seconds; only a run that hangs takes that long


class Play:
    """A run of a playbook; wanted: {host: its variables}, on top of the inventory. Limited to these hosts."""

    def __init__(self, wanted, *arguments, playbook="site.yml", collections=ROOT / "collections"):
        self.directory = Path(tempfile.mkdtemp(prefix="play-"))
        inventory = self.directory / "wanted.yml"
        inventory.write_text(yaml.safe_dump({"map_ce": {"hosts": wanted}}))
        argv = ["ansible-playbook", "-v", "--limit", ",".join(wanted), *arguments]
        for path in [*INVENTORIES, inventory]:
            argv += ["-i", str(path)]
        self.log = self.directory / "log"
        # Connections of its own: those of an earlier run may lead to a router that has lost its power since.
        environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                       "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.directory / "cp")}
        with self.log.open("w") as output:
            self.process = subprocess.Popen([*argv, playbook], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    @property
    def output(self):
        return self.log.read_text() if self.log.exists() else self.said

    def wait(self):
        """The exit code, once it is done."""
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.end()

    def recap(self, host):
        """{"ok": number, "changed": number, ...} of a host."""
        line = re.search(rf"^{host} +: (.*)$", self.output, re.MULTILINE)
        assert line, self.output
        return {key: int(number) for key, number in (pair.split("=") for pair in line.group(1).split())}

    def applied(self):
        """How the change was applied, by host."""
        results = re.findall(r'^changed: \[(\w+)\] => .*?"applied": "(\w+)"', self.output, re.MULTILINE | re.DOTALL)
        return dict(results)

    def kill(self):
        """SIGKILL for the play and all its processes, unless it is done; none of them gets to say a last word."""
        if self.process.poll() is None:
            family = descendants(self.process.pid)
            for process in family:  # none of them may start another one meanwhile
                signal_to(process, signal.SIGSTOP)
            for process in {*family, *descendants(self.process.pid)}:
                signal_to(process, signal.SIGKILL)
        self.end()

    def end(self):
        """Ends what is left of it: after a kill itself, and the shared connections; keeps what it said."""
        if not self.directory.exists():
            return
        if self.process.poll() is None:
            signal_to(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for control in (self.directory / "cp").glob("*"):
            subprocess.run(["ssh", "-o", f"ControlPath={control}", "-O", "exit", "-"], capture_output=True, timeout=60)
        self.said = self.log.read_text()
        shutil.rmtree(self.directory, ignore_errors=True)  # ssh takes its sockets away as well


def descendants(process):
    """The process and all below it."""
    found = [process]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, children.read_text().split())
            except OSError:
                continue
    return found


def signal_to(process, number):
    try:
        os.kill(process, number)
    except ProcessLookupError:
        pass
