"""Ansible's way to a stand-in router: commands go to standins.py, so that their work is none of the controller's."""
from __future__ import annotations

import os
import shlex
import socket
import sys
from pathlib import Path

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from standins import receive, send  # noqa: E402

DOCUMENTATION = """
name: standin
short_description: Runs commands on a stand-in router
description: Runs commands on a stand-in router of this benchmark.
author: softwire.map contributors
"""


class Connection(ConnectionBase):
    transport = "standin"
    has_pipelining = True
    always_pipeline_modules = True  # as the project's ansible.cfg sets for SSH

    def _connect(self):
        self._connected = True
        return self

    def exec_command(self, cmd, in_data=None, sudoable=True):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.environ["STANDINS"])
            with connection.makefile("rwb") as stream:
                send(stream, in_data or b"", router=self._play_context.remote_addr, command=cmd)
                said, body = receive(stream)
        if said.get("unreachable"):
            raise AnsibleConnectionFailure(f"no such stand-in: {self._play_context.remote_addr}")
        border = len(body) - said["errors"]
        return said["code"], body[:border], body[border:]

    def put_file(self, in_path, out_path):
        self.exec_command(f"cat > {shlex.quote(out_path)}", Path(in_path).read_bytes())

    def fetch_file(self, in_path, out_path):
        Path(out_path).write_bytes(self.exec_command(f"cat {shlex.quote(in_path)}")[1])

    def close(self):
        self._connected = False
