"""The benchmark's guest is given one job: what guest.py reads, of the border relay and of the customer edge."""
from __future__ import annotations

import edge
import workload


def cases(counts: list[int], tunnel_counts: list[int]) -> list[workload.Case]:
    """Every row of the tables."""
    return workload.cases(counts, tunnel_counts) + edge.cases(counts[0])


def job(counts: list[int], tunnel_counts: list[int], rounds: int, packets: int) -> tuple[dict, dict[str, bytes]]:
    """What guest.py reads as job.json, and the files beside it."""
    chosen = cases(counts, tunnel_counts)
    generations = {
        "general": workload.relay("general", "map-e", workload.RULE),
        "fast": workload.relay("fast", "map-e", workload.RULE, fast_path=True),
        "bpf": workload.relay("bpf", "map-t", workload.RULE, translator="bpf"),
        "siit": workload.relay("siit", "map-t", workload.RULE, translator="jool_siit"),
        "load25": workload.relay("load25", "map-e", workload.RULE),
        "load8": workload.relay("load8", "map-e", workload.SMALL_RULE),
        **{name: edge.generation(name) for name in edge.ROUTERS},
    }
    nothing = {"ip": "", "nft": ""}
    routers = {"plain": workload.PLAIN, "load": nothing, "general": nothing, "fast": nothing, "bpf": nothing, "siit": nothing,
               **{name: {"ip": edge.ADDRESSES, "nft": ""} for name in edge.ROUTERS}}
    for count in tunnel_counts:
        routers[f"shared-{count}"] = workload.tunnels(count, shared=True)
        routers[f"unshared-{count}"] = workload.tunnels(count, shared=False)

    files = {f"generations/{name}/{path}": content for name, made in generations.items() for path, content in made.items()}
    for name, router in routers.items():
        files[f"routers/{name}/ip"] = (workload.ADDRESSES + router["ip"]).encode()
        files[f"routers/{name}/nft"] = router["nft"].encode()
    edges = {count: workload.customer_edges(count) for count in {case.count for case in chosen}}
    for directory, attribute, makers in (
            ("traffic", "traffic", {**workload.FRAMES, **edge.FRAMES}), ("expected", "expected", {**workload.EXPECTED, **edge.EXPECTED})):
        for name in {getattr(case, attribute) for case in chosen} - {""}:
            kind, count = name.rsplit("-", 1)
            files[f"{directory}/{name}"] = b"".join(map(makers[kind], edges[int(count)]))
    sizes = {case.traffic: len(files[f"traffic/{case.traffic}"]) // case.count for case in chosen}
    return {
        "rounds": rounds,
        "packets": packets,
        "routers": list(routers),
        "brought_up": [name for name in generations if name in routers],
        "loads": {"router": "load", "generations": ["load25", "load8"]},
        "gateway": workload.GATEWAY_MAC.hex(),
        "cases": [
            {"name": case.name, "router": case.router, "down": case.way == "down", "traffic": case.traffic,
             "size": sizes[case.traffic], "count": case.count, "leaving": case.leaving, "expected": case.expected}
            for case in chosen
        ],
    }, files
