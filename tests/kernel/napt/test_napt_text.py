"""The NAPT's ruleset as text: every form loads over every other, and a reload equals a first load."""

from __future__ import annotations

import os
import re

import pytest
from napt_cases import CASES
from napt_lab import run


@pytest.fixture(scope="module")
def namespace():
    name = "napt-%d-text" % os.getpid()
    run("ip", "netns", "add", name)
    yield name
    run("ip", "netns", "delete", name)


def objects(namespace):
    """What is loaded, packet counts aside, in its order."""
    text = run("ip", "netns", "exec", namespace, "nft", "list", "table", "ip", "softwire_ce_napt")
    return re.split(r"\n\n+", re.sub(r"packets \d+ bytes \d+", "", text.split("\n", 1)[1].rstrip("}\n")))


def listing(namespace):
    """The same without its order."""
    return sorted(objects(namespace))


def test_every_form_replaces_every_other_without_a_trace(namespace):
    def load(name):
        run("ip", "netns", "exec", namespace, "nft", "-f", "-", input=texts[name])
        return listing(namespace)

    texts = {**{name: CASES[name].render() for name in CASES}, "limited": CASES["a6_k8"].render(max_ports_per_client=20)}
    fresh = {}
    for name in texts:
        fresh[name] = load(name)
        order = objects(namespace)
        assert load(name) == fresh[name]
        assert objects(namespace) == order
        run("ip", "netns", "exec", namespace, "nft", "delete", "table", "ip", "softwire_ce_napt")
    assert fresh["a6_k8"] != fresh["limited"]
    for first in ("a6_k8", "limited", "a0", "full", "ocn_a6_k6", "prefix", "a0_psid0_forwards", "a4_k8", "a0"):
        assert load(first) == fresh[first]


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].index["rewrite"]])
def test_reload_clears_every_chain_and_map_the_rewrite_needs(name):
    text = CASES[name].render()
    body = text[text.rindex("table ip softwire_ce_napt {"):]
    chains = set(re.findall(r"^    chain (\w+) \{\n(?!        type )", body, re.MULTILINE))
    maps = set(re.findall(r"^    map (\w+) ", body, re.MULTILINE))
    # "forward" is there with a limit for each client only
    assert chains | {"forward"} == set(re.findall(r"delete chain ip softwire_ce_napt (\w+)", text))
    assert maps == set(re.findall(r"flush map ip softwire_ce_napt (\w+)", text))


@pytest.mark.parametrize("name", CASES)
def test_text_is_readable(name):
    text = CASES[name].render()
    assert max(len(line) for line in text.splitlines()) <= 220
    assert "\n\n\n" not in text
    assert not re.search(r"[ \t]$", text, re.MULTILINE)
