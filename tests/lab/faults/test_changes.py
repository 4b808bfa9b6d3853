"""What a change leaves in the kernel, and that a renumbering and a rollback move everything."""

from __future__ import annotations

from router import LAB, Router, Wanted, everywhere

CONNTRACK = "for n in '' $(ls /run/netns 2>/dev/null); do ${n:+nsenter --net=/run/netns/$n} conntrack -L %s 2>/dev/null; done"


def test_a_reload_a_restart_and_a_reboot_leave_the_same(network):
    wanted = {router: Wanted(0, True) for router in network.routers}
    assert set(network.converge(wanted).applied().values()) == {"reload"}
    reloaded = dict(zip(network.routers, everywhere(Router.state)))
    everywhere(lambda router: router.do("systemctl restart softwire@ce"))
    everywhere(lambda router: router.assert_state(reloaded[router], "after a restart as after a reload"))
    LAB.restart([router.name for router in network.routers])
    everywhere(lambda router: router.assert_state(reloaded[router], "after a reboot as after a reload"))
    network.check(wanted)


def test_a_renumbering_moves_everything_in_one_run(network):
    before = dict(zip(network.routers, everywhere(lambda router: router.exec(CONNTRACK % "").stdout + router.exec(CONNTRACK % "-f ipv6").stdout)))
    wanted = {router: Wanted(1, True) for router in network.routers}
    assert set(network.converge(wanted).applied().values()) == {"restart"}
    for router, state in zip(network.routers, everywhere(Router.state)):
        old, new = router.edges
        flows = router.exec(CONNTRACK % "").stdout + router.exec(CONNTRACK % "-f ipv6").stdout
        for text in (old["map_address"], old["ipv4_address"], old["end_user_prefix"].split("/")[0]):
            assert text in "\n".join(router.known[Wanted(0, True)])
            assert text not in "\n".join(state), text
            assert text not in flows
        assert old["ipv4_address"] in before[router] and new["ipv4_address"] in flows
        assert not router.forwards(0)


def test_a_rollback_returns_to_the_configuration_before(network):
    play = network.start({router: router.wanted for router in network.routers}, playbook="playbooks/rollback.yml")
    assert play.wait() == 0, play.output
    for router in network.routers:
        router.wanted = Wanted(0, True)
    network.check({router: router.wanted for router in network.routers})
