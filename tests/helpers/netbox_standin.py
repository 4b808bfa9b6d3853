# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for NetBox on this machine: what version 4.3 answers to its inventory plugin's questions, as far as that looks at the answers."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

VERSION = "4.3.7"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
ROLES = {1: "map_ce", 2: "map_br", 3: "switch"}
# Lists of which a network like this has none, or that say nothing of MAP.
EMPTY = ("dcim/platforms", "dcim/regions", "dcim/site-groups", "dcim/locations", "tenancy/tenants", "virtualization/clusters",
         "virtualization/virtual-machines")
STATUS = {"active": "Active", "decommissioning": "Decommissioning", "offline": "Offline"}


def prefix(number, text):
    """A prefix in brief, as a custom field of the type Object has it."""
    return {"id": number, "url": f"http://localhost/api/ipam/prefixes/{number}/", "display": text, "family": {"value": 6, "label": "IPv6"},
            "prefix": text, "description": "", "_depth": 0}


def device(number, name, role, status="active", context=None, address=None, **fields):
    """A device; role: its number among ROLES; fields: its custom fields."""
    slug = ROLES[role]
    return {
        "id": number, "url": f"http://localhost/api/dcim/devices/{number}/", "display": name, "name": name,
        "device_type": {"id": 1, "manufacturer": {"id": 1, "name": "PC", "slug": "pc"}, "model": "PC", "slug": "pc"},
        "role": {"id": role, "name": slug, "slug": slug}, "tenant": None, "platform": None, "serial": "", "asset_tag": None,
        "site": {"id": 1, "name": "Lab", "slug": "lab"}, "location": None, "rack": None, "status": {"value": status, "label": STATUS[status]},
        "primary_ip": address and {"id": number, "family": {"value": 6, "label": "IPv6"}, "address": address}, "primary_ip4": None,
        "primary_ip6": None, "oob_ip": None, "cluster": None, "virtual_chassis": None, "config_context": context or {}, "local_context_data": None,
        "tags": [], "custom_fields": {"map_prefix": None, "map_ce_wan_interface": None, **fields},
    }


class NetBox:
    """The server, on a port of its own, for as long as the context lasts. devices: what device() returns; asked: the paths of its questions."""

    def __init__(self, devices):
        self.devices = devices
        self.asked = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_error):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, path, query):
        """The answer to a question; None where NetBox has no such page."""
        if path == "status":
            return {"netbox-version": VERSION}
        if path == "schema":
            parameters = [{"name": name} for name in ("role", "site", "status", "tag", "limit")]
            pages = ("/api/dcim/devices/", "/api/virtualization/virtual-machines/")
            return {"info": {"version": f"{VERSION} ({VERSION[:3]})"}, "paths": {page: {"get": {"parameters": parameters}} for page in pages}}
        if path == "dcim/devices":
            return listing([one for one in self.devices if one["role"]["slug"] in query.get("role", [one["role"]["slug"]])])
        named = {
            "dcim/sites": [{"id": 1, "slug": "lab", "region": None, "group": None, "time_zone": None, "facility": "", "prefix_count": 0}],
            "dcim/device-roles": [{"id": number, "slug": slug} for number, slug in ROLES.items()],
            "dcim/device-types": [{"id": 1, "slug": "pc"}],
            "dcim/manufacturers": [{"id": 1, "slug": "pc"}],
            **dict.fromkeys(EMPTY, []),
        }
        return listing(named[path]) if path in named else None


def listing(results):
    return {"count": len(results), "next": None, "previous": None, "results": results}


def handler(netbox):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = urlparse(self.path)
            netbox.asked.append(self.path)
            allowed = self.headers["Authorization"] == f"Token {TOKEN}"
            answer = netbox.answer(asked.path.removeprefix("/api/").strip("/"), parse_qs(asked.query)) if allowed else {"detail": "Invalid token"}
            body = json.dumps(answer or {}).encode()
            self.send_response(401 if not allowed else 404 if answer is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments):
            pass

    return Handler
