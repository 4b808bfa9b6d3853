# Copyright (c) 2026 softwire.map contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A router for the runner, with interfaces, addresses and rules of its own."""

from __future__ import annotations

import pytest

# A router as it was before: things that an instance uses, and things that are none of its business.
ROUTER = """
ip -batch - <<END
link add isp type veth peer name isp-peer
link add lan type veth peer name lan-peer
link add guest type veth peer name guest-peer
link add inet type veth peer name inet-peer
link set isp-peer up
link set isp up
link set lan-peer up
link set lan up mtu 1400
link set inet-peer up
link set inet up
addr add 2001:db8:6::2/64 dev isp
addr add 192.168.0.1/24 dev lan
addr add 192.168.7.1/24 dev lan
addr add 2001:db8:ce:11a::1/64 dev lan
addr add 203.0.113.2/24 dev inet
route add 10.8.0.1 dev lan
route add 10.10.0.0/16 via 10.8.0.1 dev lan
route add 10.9.0.0/16 via 192.168.0.254 metric 5
route add default via 192.168.0.254 table 500
rule add pref 500 from 10.0.0.0/8 lookup 500
route add 2001:db8:5::/48 via 2001:db8:ce:11a::9 dev lan
neigh add proxy 2001:db8:7::7 dev isp
END
nft 'add table inet admin; add chain inet admin input { type filter hook input priority 0; }'
cd /proc/sys/net
echo 0 > ipv4/conf/all/accept_redirects; echo 1 > ipv4/conf/isp/forwarding; echo 1 > ipv6/conf/isp/forwarding
# The kernel notices a carrier a moment later, and then makes addresses and routes.
for link in isp lan inet; do until ip -6 route show table local | grep -q "^local fe80::.* $link"; do sleep 0.02; done; done
"""


@pytest.fixture
def router(sandbox):
    sandbox.sh(ROUTER)
    return sandbox
