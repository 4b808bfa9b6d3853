"""The NAPT's ruleset as text: every form loads over every other, and a reload equals a first load."""

from __future__ import annotations

import os
import re

import pytest
from napt_cases import CASES
from napt_lab import run

from ansible_collections.softwire.map.plugins.module_utils.softwire.runner import surplus


@pytest.fixture(scope="module")
def namespace():
    name = "napt-%d-text" % os.getpid()
    run("ip", "netns", "add", name)
    yield name
    run("ip", "netns", "delete", name)


def objects(namespace):
    """What is loaded, packet counts aside, in its order."""
    text = run("ip", "netns", "exec", namespace, "nft", "list", "table", "ip", "softwire_ce_napt")
    return re.split(r"\n\n+", re.sub(r"packets \d+ bytes \d+", "", text.split("\n", 1)[1].removesuffix("}\n").strip("\n")))


def listing(namespace):
    """The same without its order."""
    return sorted(objects(namespace))


def older(text):
    """The same as a collection before this one may have made it: names and objects that are no longer there."""
    extra = """
    counter gone { comment "x; chain never {" }
    set gone { type ipv4_addr; flags dynamic; }
    ct timeout gone {
        protocol udp
        policy = { replied : 9 }
    }
    chain gone {
        type filter hook forward priority 0; policy accept;
        ip daddr @gone counter name "gone" drop
    }
    chain gone_too {
        ip protocol udp ct timeout set "gone"
    }
"""
    head = "table ip softwire_ce_napt {\n"
    return text.replace(head, head + extra)


def test_every_form_replaces_every_other_without_a_trace(namespace):
    def nft(*arguments, **options):
        run("ip", "netns", "exec", namespace, "nft", *arguments, **options)

    def load(name, before):
        nft("-f", "-", input=texts[name])
        for entry in surplus("main", texts[before].encode(), texts[name].encode()):
            nft(*entry["run"][1:])
        return listing(namespace)

    texts = {**{name: CASES[name].render() for name in CASES}, "limited": CASES["a6_k8"].render(max_ports_per_client=20)}
    texts.update({"older": older(texts["a6_k8"]), "older_plain": older(texts["a0"])})
    fresh = {}
    for name in texts:
        assert surplus("main", texts[name].encode(), texts[name].encode()) == []
        fresh[name] = load(name, name)
        order = objects(namespace)
        assert load(name, name) == fresh[name]
        assert objects(namespace) == order
        nft("delete", "table", "ip", "softwire_ce_napt")
    assert fresh["a6_k8"] != fresh["limited"] and fresh["a6_k8"] != fresh["older"]
    before = "a6_k8"
    for name in ("a6_k8", "limited", "a0", "full", "older", "ocn_a6_k6", "prefix", "older_plain", "a0_psid0_forwards", "a4_k8", "limited", "a0"):
        assert load(name, before) == fresh[name], f"{name} over {before}"
        before = name


@pytest.mark.parametrize("name", CASES)
def test_the_file_follows_a_packet(name):
    text = CASES[name].render(max_ports_per_client=20)
    assert re.findall(r"^    chain (\w+) \{\n        type ", text, re.MULTILINE) == [
        "port_forwards", "port_forwards_output", "uninvited", "mss", "forward", "source_nat"]
    assert text.count("\n") < 150


@pytest.mark.parametrize("name", CASES)
def test_text_is_readable(name):
    text = CASES[name].render()
    assert max(len(line) for line in text.splitlines()) <= 220
    assert "\n\n\n" not in text
    assert not re.search(r"[ \t]$", text, re.MULTILINE)
