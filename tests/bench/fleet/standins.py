#!/usr/bin/env python3
"""Stand-in routers: a directory each instead of a machine, for plays that run the real modules and need no data plane.

    standins.py DIRECTORY    answers connection_plugins/standin.py on DIRECTORY/socket; root is needed

Every command of a play runs in a process forked from this one, in a mount namespace of its own in which the router's
directory lies below /etc/softwire, /etc/systemd/system, /var/log and /run. Modules run in the fork itself, since starting Python
and importing Ansible for each would cost ten times what they do. The commands in tools/ take the place of systemctl, ip,
nft and others. DIRECTORY/calls gets a line per command: router, what was run.
"""
from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MOUNTED = {"softwire": "/etc/softwire", "system": "/etc/systemd/system", "run": "/run", "log": "/var/log", "sysctl": "/proc/sys/net"}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OS_RELEASE = 'ID=debian\nVERSION_ID="12"\n'
CLONE_NEWNS, MS_BIND = 0x20000, 0x1000
# Real package managers would be most of a router's work and none of the controller's.
ANSWERS = {"ansible.modules.apt": b'{"changed": false}'}


class Fleet:
    """The routers below a directory, and the process that plays them; a context manager."""

    def __init__(self, directory):
        self.directory = Path(directory)

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, __file__, str(self.directory)], stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("the stand-in routers do not start: root and mount namespaces are needed")
        return self

    def __exit__(self, *_exception):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def add(self, name):
        """A router on which nothing is deployed; returns its directory. One that was not added cannot be reached.

        With a file is_cut_off in the directory a router does what a deployment says, and the answer is lost.
        """
        router = self.directory / name
        for path in ("softwire", "system", "run/systemd/system", "run/netns", "log", "sysctl"):
            (router / path).mkdir(parents=True)
        return router

    def environment(self):
        """What a play needs to reach the routers by `ansible_connection: standin`."""
        return {"ANSIBLE_CONNECTION_PLUGINS": str(HERE / "connection_plugins"), "STANDINS": str(self.directory / "socket")}


def receive(stream):
    """(header, body) of a message; the header tells the body's length."""
    header = json.loads(stream.readline())
    return header, stream.read(header["length"])


def send(stream, body, **header):
    stream.write(json.dumps({**header, "length": len(body)}).encode() + b"\n" + body)
    stream.flush()


# the server


def prepare(directory):
    """Namespaces and mounts that all routers share: a copy of /etc to mount in, and the tools first on the path."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    etc = tempfile.mkdtemp(dir=directory)
    script = f"""
        mount --make-rprivate /
        mount -t tmpfs tmpfs {etc}
        cp -a /etc/. {etc}
        mkdir -p {etc}/softwire {etc}/systemd/system
        rm -f {etc}/os-release
        mount --bind {etc} /etc
        mount --bind {HERE}/tools /usr/local/sbin
    """
    subprocess.run(["sh", "-ec", script], check=True)
    Path("/etc/os-release").write_text(OS_RELEASE)
    os.environ.clear()
    os.environ.update(PATH=SYSTEM_PATH, HOME="/root", LC_ALL="C.UTF-8")
    return libc


def serve(directory):
    libc = prepare(directory)
    preload()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "socket"))
        listener.listen(128)
        print("ready", flush=True)
        while True:
            connection, _address = listener.accept()
            if os.fork() == 0:
                listener.close()
                # A play that was ended does not listen any more.
                with contextlib.suppress(BrokenPipeError), connection, connection.makefile("rwb") as stream:
                    answer(libc, directory, stream)
                os._exit(0)
            connection.close()


def preload():
    import ansible.module_utils.basic  # noqa: F401

    with contextlib.suppress(ImportError):  # ansible-core 2.18 has none
        import ansible.module_utils._internal._ansiballz._loader  # noqa: F401


def answer(libc, directory, stream):
    """One command: run in a child, whose output goes into files in memory."""
    request, text = receive(stream)
    router = directory / request["router"]
    if not router.is_dir():
        send(stream, b"", unreachable=True)
        return
    name_of = re.compile(rb"(?:module_fqn|mod_name)='([\w.]+)'")  # ansible-core 2.19, 2.18
    module = name_of.search(text[-4000:]) or name_of.search(text)
    name = module.group(1).decode() if module else "shell"
    with (directory / "calls").open("a") as calls:
        calls.write(f"{request['router']} {name}\n")
    if name in ANSWERS:
        send(stream, ANSWERS[name], code=0, errors=0)
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    out, err, given = (os.memfd_create(what) for what in ("out", "err", "in"))
    os.write(given, b"" if module else text)
    os.lseek(given, 0, os.SEEK_SET)
    child = os.fork()
    if child == 0:
        for number, descriptor in enumerate((given, out, err)):
            os.dup2(descriptor, number)
        run(libc, router, request["command"], text if module else None)
    _child, status = os.waitpid(child, 0)
    out, err = (content(descriptor) for descriptor in (out, err))
    if name.endswith(".deploy") and (router / "is_cut_off").exists():
        send(stream, b"", unreachable=True)
        return
    send(stream, out + err, code=os.waitstatus_to_exitcode(status), errors=len(err))


def content(descriptor):
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, os.fstat(descriptor).st_size)


def run(libc, router, command, module):
    """Becomes the command; does not return."""
    libc.unshare(CLONE_NEWNS)
    for name, path in MOUNTED.items():
        if libc.mount(str(router / name).encode(), path.encode(), None, MS_BIND, None):
            os._exit(255)
    if module is None:
        os.execv("/bin/sh", ["sh", "-c", command])
    code = 1
    try:
        sys.argv = ["module"]
        exec(compile(module, "module", "exec"), {"__name__": "__main__"})  # the wrapper that Ansible sends
        code = 0
    except SystemExit as exc:
        code = exc.code or 0
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
