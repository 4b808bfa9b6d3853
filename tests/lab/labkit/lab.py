"""The lab itself: nodes and networks on a machine, which is this one or the VM."""
from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from labkit import images, topology, vm
from labkit.common import (RUN, SOURCE, LabError, cache_dir, choice, have_commands, locked,
                           progress)
from labkit.topology import LABEL, UPLINK

MODULES = ("jool_siit", "ip6_tunnel")
NAME = RUN / "topology"
SYSTEMD_TIMEOUT = 180  # seconds until systemd is up in every node, on an emulated CPU
PLUG_ATTEMPTS = 5
PLUG_PAUSE = 1  # seconds


def chosen_kernel() -> str:
    """`host` or `vm`, by LAB_KERNEL; auto: this machine's kernel if it has Jool."""
    kernel = choice("LAB_KERNEL", "auto", "host", "vm")
    if kernel == "auto":
        dry_run = subprocess.run(["modprobe", "-n", "jool_siit"], capture_output=True)
        kernel = "host" if dry_run.returncode == 0 else "vm"
    return kernel


def chosen_engine(kernel: str) -> str:
    """`podman` or `docker`, by LAB_ENGINE; auto: podman, or docker where only that works."""
    engine = choice("LAB_ENGINE", "auto", "podman", "docker")
    if kernel == "vm":
        return "podman"
    if engine == "auto":
        docker_only = not have_commands("podman") and have_commands("docker") and not (
            subprocess.run(["docker", "info"], capture_output=True).returncode)
        engine = "docker" if docker_only else "podman"
    return engine


def what_is_up() -> str:
    """The name of the topology that `up` started, empty where there is none."""
    return NAME.read_text() if NAME.exists() else ""


class Lab:
    """One lab per machine and kernel. Needs root: it makes network namespaces.

    topology: a file of topologies/; by default what LAB_TOPOLOGY names, else what is up, else mapt.
    """

    def __init__(self, name: str = "") -> None:
        if os.geteuid() != 0:
            raise LabError("the lab makes network namespaces: run it as root (sudo)")
        if not have_commands("modprobe"):
            raise LabError("modprobe is missing: install kmod")
        self.topology = topology.load(name or os.environ.get("LAB_TOPOLOGY") or what_is_up() or "mapt")
        self.kernel = chosen_kernel()
        self.engine = chosen_engine(self.kernel)

    # -- the machine that holds the nodes: this one, or the VM -----------------

    def _argv(self, command: Sequence[str], *ssh_options: str) -> list[str]:
        """argv that runs a command on the machine."""
        if self.kernel == "host":
            return list(command)
        if vm.pid() is None:
            raise LabError("the lab's VM is not running: `lab up` first")
        return [*vm.ssh_argv(images.ssh_key(), *ssh_options), shlex.join(command)]

    def _machine(self, script: str, what: str, data: bytes = b"",
                 timeout: float | None = None) -> str:
        """Run a shell script on the machine; its output, or LabError."""
        done = subprocess.run(self._argv(["sh", "-euc", script]), input=data, timeout=timeout,
                              capture_output=True, env=self._environment())
        if done.returncode:
            raise LabError(f"{what} failed ({done.returncode}):\n"
                           f"{done.stdout.decode()}{done.stderr.decode()}")
        return done.stdout.decode()

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CONTAINERS_CONF": str(SOURCE / "containers.conf")}

    def _ip_batch(self, lines: Iterable[str], what: str, force: bool = False) -> None:
        """Run `ip -batch` lines in the lab's namespace; force: errors do not count."""
        tail = "-force -batch - 2>/dev/null || true" if force else "-batch -"
        self._machine(f"ip -n {LABEL} {tail}", what, "".join(f"{x}\n" for x in lines).encode())

    # -- life ------------------------------------------------------------------

    def prepare(self) -> None:
        """Build what is missing in the cache, installing packages only after naming them."""
        progress(f"kernel: {self.kernel}, containers: {self.engine}, cache: {cache_dir()}")
        with locked(cache_dir()):
            images.prepare(self.kernel, self.engine, self.topology.suites)

    def up(self) -> None:
        """Everything up and systemd done in every node; does what is missing only."""
        self.prepare()
        with locked(RUN):
            if self.kernel == "vm":
                if vm.pid() is None:
                    vm.start(images.vm_disk(self.topology.suites), images.ssh_key())
                elif vm.disk_name() != images.vm_disk(self.topology.suites).name:
                    progress("WARNING: the running VM is of an older recipe; "
                             "`lab down` and `lab up` renew it")
            else:
                self._prepare_host()
            there = self._containers()
            foreign = {n for n, (topo, _state) in there.items() if topo != self.topology.name}
            if foreign:
                raise LabError(f"another topology is up ({', '.join(sorted(foreign))}): "
                               "`lab down` first")
            NAME.write_text(self.topology.name)
            self._make_networks()
            missing = [n for n in self.topology.nodes if n not in there]
            stopped = [n for n, (_topo, state) in there.items() if state != "running"]
            if missing:
                progress(f"creating {' '.join(missing)} ...")
                self._create(missing)
            if stopped:
                progress(f"starting {' '.join(stopped)} ...")
                self._engine_parallel("start", stopped)
            if missing or stopped:
                self._plug_and_wait([*missing, *stopped])
        progress(f"the lab is up ({len(self.topology.nodes)} nodes)")

    def _prepare_host(self) -> None:
        """This machine's kernel and engine: modules loaded, the node images imported."""
        for module in MODULES:
            loaded = subprocess.run(["modprobe", module], capture_output=True, text=True)
            if loaded.returncode:
                progress(f"WARNING: this kernel has no {module}: what needs it will not work here")
        for suite in self.topology.suites:
            image = images.image_name(suite)
            known = subprocess.run([self.engine, "image", "inspect", image], capture_output=True,
                                   env=self._environment())
            if known.returncode:
                progress(f"importing the node image {suite} ...")
                self._machine(f"{self.engine} import --change 'CMD [\"/sbin/init\"]' "
                              f"{images.node_archive(suite)} {image} >/dev/null", "importing the image")

    def _containers(self) -> dict[str, tuple[str, str]]:
        """Node name -> (topology name, state) of the lab's containers."""
        output = self._machine(
            f"ids=$({self.engine} ps -aq --filter label={LABEL}); "
            f"test -z \"$ids\" || {self.engine} inspect --format '{{{{.Name}}}} "
            f"{{{{.State.Status}}}} {{{{index .Config.Labels \"{LABEL}\"}}}}' $ids",
            "listing the containers")
        found = {}
        for line in output.splitlines():
            name, state, topo = line.split()
            found[name.lstrip("/").removeprefix(f"{LABEL}-")] = (topo, state)
        return found

    def _make_networks(self) -> None:
        exists = self._machine(f"test -e /run/netns/{LABEL} && echo yes || true", "networks")
        if exists.strip():
            return
        progress("creating the networks ...")
        topo = self.topology
        uplink = (f"ip link add {UPLINK} type veth peer name uplink netns {LABEL}; "
                  f"ip address add {topo.management_address} dev {UPLINK}; ip link set {UPLINK} up")
        self._machine(f"ip netns add {LABEL}; {uplink}", "the management network")
        self._ip_batch([*topology.bridge_lines(topo),
                        f"link set uplink master {topo.management_network} up"], "the networks")

    def _create(self, names: Sequence[str]) -> None:
        """Bring the nodes' files to the machine, then create and start the containers."""
        public_key = images.ssh_key().with_suffix(".pub").read_text()
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name in names:
                files = topology.node_files(self.topology.nodes[name], public_key)
                for file, text in files.items():
                    info = tarfile.TarInfo(f"nodes/{name}/{file}")
                    info.size, info.mtime = len(text.encode()), int(time.time())
                    archive.addfile(info, io.BytesIO(text.encode()))
        self._machine(f"mkdir -p {RUN} && tar -xC {RUN}", "the nodes' files", buffer.getvalue())
        modules = self._machine("test -d /lib/modules && echo yes || true", "modules") != ""
        nodes = [self.topology.nodes[name] for name in names]
        commands = [topology.container_command(self.engine, self.topology, node,
                                               images.image_name(node.suite), modules)
                    for node in nodes]
        self._parallel_commands(commands, "creating the containers")

    def _parallel_commands(self, commands: Iterable[Sequence[str]], what: str) -> None:
        """Run commands on the machine, two at a time; LabError when one fails."""
        lines = "".join(f"{shlex.join(c)} >/dev/null\0" for c in commands)
        self._machine("xargs -0 -P 2 -n 1 sh -c", what, lines.encode())

    def _engine_parallel(self, verb: str, names: Iterable[str]) -> None:
        self._parallel_commands([[self.engine, *verb.split(), f"{LABEL}-{n}"] for n in names],
                                f"{self.engine} {verb}")

    def _plug_and_wait(self, names: Sequence[str]) -> None:
        """Plug freshly started nodes into the networks and wait until systemd is up in them."""
        for attempt in range(1, PLUG_ATTEMPTS + 1):
            pids = self._process_ids(names)
            dead = [name for name in names if not pids.get(name)]
            try:
                if dead:
                    raise LabError(f"ended right after the start: {' '.join(dead)}; "
                                   f"see `{self.engine} logs {LABEL}-{dead[0]}`")
                self._plug(pids)
                break
            except LabError as error:
                # On a busy machine a container may end, or begin anew, before it is plugged in.
                if attempt == PLUG_ATTEMPTS:
                    raise
                progress(f"plugging in, attempt {attempt} of {PLUG_ATTEMPTS}, failed, once more: {str(error)[:200]}")
                time.sleep(PLUG_PAUSE)
                if dead:
                    self._engine_parallel("start", dead)
        files = " ".join(f"{name}:{pid}" for name, pid in pids.items())
        self._machine(f"mkdir -p {RUN}/pids; for x in {files}; do "
                      f"echo ${{x#*:}} > {RUN}/pids/${{x%%:*}}; done", "process ids")
        progress(f"waiting for systemd in {len(names)} nodes ...")
        with ThreadPoolExecutor(len(names)) as pool:
            for job in [pool.submit(self._wait_for_systemd, n) for n in names]:
                job.result()

    def _process_ids(self, names: Sequence[str]) -> dict[str, int]:
        """The process ids of nodes; 0 for one that has ended."""
        containers = " ".join(f"{LABEL}-{n}" for n in names)
        output = self._machine(
            f"{self.engine} inspect --format '{{{{.Name}}}} {{{{.State.Pid}}}}' {containers}",
            "reading the containers' process ids")
        found = (line.lstrip("/").split() for line in output.splitlines())
        return {name.removeprefix(f"{LABEL}-"): int(pid) for name, pid in found}

    def _plug(self, pids: dict[str, int]) -> None:
        """Give each node its interfaces, also where some of them are there already."""
        unplug, plug = [], []
        for name, pid in pids.items():
            old, new = topology.plug_lines(self.topology.nodes[name], pid)
            unplug += old
            plug += new
        self._ip_batch(unplug, "unplugging", force=True)
        self._ip_batch(plug, "plugging the nodes in")

    def _wait_for_systemd(self, name: str) -> None:
        deadline = time.monotonic() + SYSTEMD_TIMEOUT
        while True:
            try:
                done = self.exec(name, ["systemctl", "is-system-running", "--wait"],
                                 timeout=SYSTEMD_TIMEOUT)
            except subprocess.TimeoutExpired:
                raise LabError(f"systemd in {name} is not up after {SYSTEMD_TIMEOUT} s: "
                               "it still starts units, or the machine is too busy") from None
            state = done.stdout.strip()
            if state == "running":
                return
            if state == "degraded":
                failed = self.exec(name, ["systemctl", "--failed", "--plain", "--no-legend"])
                progress(f"WARNING: {name} is up, with failed units:\n{failed.stdout.rstrip()}")
                return
            if time.monotonic() > deadline:
                raise LabError(f"systemd in {name} is not up after {SYSTEMD_TIMEOUT} s: "
                               f"{state} {done.stderr.strip()}")
            time.sleep(0.5)

    def restart(self, names: Sequence[str] = ()) -> None:
        """Reboot nodes (default: all): clean stop, a new network namespace, systemd up again."""
        names = self._checked(names)
        with locked(RUN):
            progress(f"restarting {' '.join(names)} ...")
            self._engine_parallel("restart --time 90", names)
            self._plug_and_wait(names)
        progress("restarted")

    def kill(self, node: str) -> None:
        """End a node at once, as a power cut does; `up` starts it again.

        Its links first: the kernel takes the rules of a dying namespace away before the links, and packets pass meanwhile.
        """
        self._checked([node])
        with locked(RUN):
            self._ip_batch([f"link set {node}.{interface.name} down" for interface in self.topology.nodes[node].interfaces], "unplugging")
            self._engine_parallel("kill --signal KILL", [node])

    def down(self) -> None:
        """Remove the nodes, the networks and the VM; the cache stays."""
        with locked(RUN):
            NAME.unlink(missing_ok=True)
            if self.kernel == "vm":
                vm.stop()
                progress("the VM is gone")
                return
            there = self._containers()
            if there:
                self._engine_parallel("rm --force", there)
            self._machine(f"if test -e /run/netns/{LABEL}; then ip netns delete {LABEL}; fi; "
                          f"if test -e /sys/class/net/{UPLINK}; then ip link delete {UPLINK}; fi; "
                          f"rm -rf {RUN}/nodes {RUN}/pids", "removing the networks")
            progress(f"{len(there)} nodes and the networks are gone")

    def destroy_cache(self) -> None:
        """Remove everything `prepare` made, the imported image too; extra-* trees stay."""
        self.down()
        if self.kernel == "host":
            subprocess.run([self.engine, "image", "rm", *map(images.image_name, self.topology.suites)],
                           capture_output=True, env=self._environment())
        for path in cache_dir().glob("*"):
            if not path.name.startswith("extra-"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        progress(f"removed what was in {cache_dir()}")

    def status(self) -> str:
        """A few readable lines: kernel, engine, VM, state of every node."""
        lines = [f"kernel:   {self.kernel}", f"engine:   {self.engine}", f"cache:    {cache_dir()}",
                 f"topology: {self.topology.name}"]
        if self.kernel == "vm":
            pid = vm.pid()
            lines.append(f"VM:       {f'process {pid}' if pid else 'not running'}")
            if not pid:
                return "\n".join(lines)
        there = self._containers()
        for name in self.topology.nodes:
            lines.append(f"  {name:8} {there.get(name, ('', 'missing'))[1]}")
        return "\n".join(lines)

    # -- use -------------------------------------------------------------------

    def _checked(self, names: Sequence[str]) -> list[str]:
        unknown = [n for n in names if n not in self.topology.nodes]
        if unknown:
            raise LabError(f"no node {' '.join(unknown)}; there are: "
                           f"{' '.join(self.topology.nodes)}")
        return list(names or self.topology.nodes)

    def exec_argv(self, node: str, argv: Sequence[str], terminal: bool = False) -> list[str]:
        """argv on this machine that runs a command in a node, as root, stdin passed on.

        nsenter instead of the engine's exec: it starts ten times faster on an emulated CPU.
        """
        self._checked([node])
        inside = ["env", "-i", "HOME=/root", "LANG=C.UTF-8",
                  f"TERM={os.environ.get('TERM', 'dumb')}",
                  "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *argv]
        script = (f'exec nsenter -t "$(cat {RUN}/pids/{node})" -m -u -i -n -p -- '
                  f"{shlex.join(inside)}")
        return self._argv(["sh", "-c", script], *(["-t"] if terminal else []))

    def exec(self, node: str, argv: Sequence[str], input: str | bytes | None = None,
             timeout: float | None = 60) -> subprocess.CompletedProcess:
        """Run a command in a node; output as text (as bytes when the input is bytes).

        timeout: seconds; subprocess.TimeoutExpired after that.
        """
        binary = isinstance(input, bytes)
        stdin = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        return subprocess.run(self.exec_argv(node, argv), capture_output=True, text=not binary,
                              timeout=timeout, **stdin)

    def exec_all(self, jobs: Sequence[tuple[str, Sequence[str]]],
                 timeout: float | None = 60) -> list[subprocess.CompletedProcess]:
        """Run (node, argv) pairs at the same time; the results in the same order."""
        with ThreadPoolExecutor(max(1, len(jobs))) as pool:
            return list(pool.map(lambda job: self.exec(*job, timeout=timeout), jobs))

    def lacks(self, module: str) -> list[str]:
        """What this lab would run without, of a kernel module and the command of the same name, found without booting it."""
        return images.lacks(self.kernel, self.topology.suites, module)

    def inventory(self) -> str:
        """An Ansible inventory (YAML) of the nodes that have a group."""
        key = images.ssh_key()
        proxy = None
        if self.kernel == "vm":
            if vm.pid() is None:
                raise LabError("the lab's VM is not running: `lab up` first")
            proxy = vm.proxy_command(key)
        return topology.inventory(self.topology, key, proxy)
