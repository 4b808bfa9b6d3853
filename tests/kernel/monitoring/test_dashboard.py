# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Prometheus with the alert rules that scrapes what routers wrote: each query of the dashboard has data, each alert its text.

Each thing that happens to a router happens to one of its own, between two scrapes.
"""

from __future__ import annotations

import http.server
import json
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

MONITORING = Path(__file__).resolve().parents[3] / "docs" / "monitoring"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
# What stands for the variables and the times that Grafana puts into a query.
GIVEN = {"$host": ".*", "$softwire": ".*", "$__rate_interval": "1m"}
# It has to be quiet for 15 minutes: test_alert_rules.py.
TAKES_LONG = {"SoftwireNothingPasses"}
GONE = "gone"


class Routers(http.server.ThreadingHTTPServer):
    """Shows each router's text as node exporter does, at a path of its own: the one before, later the one after it."""

    def __init__(self, texts):
        super().__init__(("127.0.0.1", 0), Page)
        self.texts, self.later = texts, False

    def page(self, name):
        if self.later and name == GONE:
            return ""
        shown = self.texts["well ce" if name == GONE else name]
        file = 'node_textfile_mtime_seconds{file="/var/lib/prometheus/node-exporter/softwire-ce.prom"}'
        return f"{shown.after if self.later else shown.before}{file} 1790000000\n"


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(self.server.page(urllib.parse.unquote(self.path[1:])).encode())

    def log_message(self, *_arguments):
        """Says nothing."""


class Prometheus:
    """The server, on a port of its own. Knows what it is asked by HTTP."""

    def __init__(self, directory, routers, names):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        targets = [{"targets": ["127.0.0.1:%d" % routers.server_address[1]],
                    "labels": {"instance": name, "__metrics_path__": "/" + name}} for name in names]
        (directory / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(MONITORING / "alerts.yml")],
            "scrape_configs": [{"job_name": "node", "static_configs": targets}]}))
        self.log = (directory / "log").open("w")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data", f"--web.listen-address={self.address}",
             "--log.level=warn"], cwd=directory, stdout=self.log, stderr=subprocess.STDOUT)

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()

    def ask(self, path, **arguments):
        """The data of an answer. What it refuses, for a query that it cannot parse, is an error with its text."""
        try:
            with urllib.request.urlopen(f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(arguments)}", timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as exc:
            if exc.code == 503:
                raise  # it still starts
            raise AssertionError(f"{arguments}: {exc.read().decode()}") from exc

    def value(self, query):
        """The value of a query with one, 0 where there is none or nobody listens yet."""
        try:
            return float(self.ask("query", query=query)["result"][0]["value"][1])
        except (IndexError, urllib.error.URLError):
            return 0

    def wait(self, query, value):
        deadline = time.monotonic() + 240
        while self.value(query) < value:
            assert self.process.poll() is None and time.monotonic() < deadline, f"{query}: {self.value(query)}, not {value}"
            time.sleep(0.2)


@pytest.fixture(scope="module")
def prometheus(texts, tmp_path_factory):
    """Prometheus, once it has seen all routers before and after what happens to them."""
    names = [*texts, GONE]
    with Routers(texts) as routers:
        threading.Thread(target=routers.serve_forever, daemon=True).start()
        made = Prometheus(tmp_path_factory.mktemp("prometheus"), routers, names)
        try:
            scrapes = "min(count_over_time(up[10m]))"
            made.wait(f"{scrapes} and on () count(up) == {len(names)}", 3)
            routers.later = True
            made.wait(scrapes, made.value(scrapes) + 6)
            yield made
        finally:
            made.close()
            routers.shutdown()


def targets():
    """(title of a panel, a query of it) of the whole dashboard."""
    return [pytest.param(panel["title"], target, id=f"{panel['title']} {target['refId']}")
            for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def filled_in(text):
    for name, value in GIVEN.items():
        text = text.replace(name, value)
    assert "$" not in text, text
    return text


@pytest.mark.parametrize("title, target", targets())
def test_each_query_has_data(title, target, prometheus):
    query = filled_in(target["expr"])
    if target.get("instant"):
        data = prometheus.ask("query", query=query)
    else:
        now = time.time()
        data = prometheus.ask("query_range", query=query, start=now - 3600, end=now, step=15)
    assert data["result"], title
    for label in re.findall(r"{{(\w+)}}", target.get("legendFormat", "")):
        assert any(label in series["metric"] for series in data["result"]), f"{title}: {label}"


@pytest.mark.parametrize("variable", [each for each in DASHBOARD["templating"]["list"] if each["type"] == "query"], ids=lambda each: each["name"])
def test_each_variable_has_values(variable, prometheus, texts):
    selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", filled_in(variable["query"]["query"])).groups()
    found = prometheus.ask(f"label/{label}/values", **{"match[]": selector})
    assert set(found) == ({*texts, GONE} if label == "instance" else {"ce", "br"})


def test_each_alert_has_its_text(prometheus):
    rules, = (group["rules"] for group in prometheus.ask("rules")["groups"])
    assert {rule["name"] for rule in rules if not rule["alerts"]} == TAKES_LONG
    for rule in rules:
        assert (rule["health"], rule.get("lastError", "")) == ("ok", "")
        for alert in rule["alerts"]:
            labels, summary, description = alert["labels"], alert["annotations"]["summary"], alert["annotations"]["description"]
            assert summary.startswith(f"{labels['softwire']} on {labels['instance']}"), summary
            assert not re.search(r"<no value>|<error|{{|\bNaN\b|  |\(\)", summary + description), summary + description
