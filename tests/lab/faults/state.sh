# What a router's kernel and disk hold, raw; few processes, since they are slow on an emulated CPU.
for namespace in main $(ls /run/netns 2>/dev/null); do
    enter="nsenter --net=/run/netns/$namespace"
    if [ "$namespace" = main ]; then enter=; fi
    echo "### $namespace"
    printf '%s\n' 'link show' 'addr show' | $enter ip -d -o -batch -
    for family in -4 -6; do
        printf '%s\n' 'rule show' 'route show table all' 'neigh show proxy' | $enter ip $family -batch -
    done
    $enter nft -s list ruleset
    $enter tc qdisc show
    $enter grep -s '' -r /proc/sys/net/ipv4 /proc/sys/net/ipv6 /proc/sys/net/netfilter
done
echo "### programs"
for link in isp inet; do tc filter show dev $link ingress 2>/dev/null; done
for name in ce br; do
    if [ -e /etc/softwire/$name/current/main/jool.json ]; then
        echo "### jool"
        jool_siit -i $name global display
        jool_siit -i $name eamt display
    fi
    for map in /run/softwire/$name/bpf/*/maps/bindings /run/softwire/$name/bpf/*/maps/config /run/softwire/$name/bpf/*/maps/rules; do
        if [ -e $map ]; then echo "### $map"; bpftool map dump pinned $map; fi
    done
    echo "### $name"
    readlink /etc/softwire/$name/current
    cat /run/softwire/$name/journal
    ls -d /etc/systemd/system/multi-user.target.wants/softwire@$name.service
done 2>/dev/null
true
