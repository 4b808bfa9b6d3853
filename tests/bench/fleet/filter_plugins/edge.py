"""The parameters of a customer edge for the role idiomatic_ce, so that both roles pay for the same arithmetic once."""
from __future__ import annotations

from ansible_collections.softwire.map.plugins.module_utils.routers import customer_edge
from ansible_collections.softwire.map.plugins.module_utils.mapping import domain


def edge(variables, softwire):
    """variables: as the action plugin takes them. Returns the parameters, with instance.json and jool.json as data."""
    ce = domain.ce(variables["domain"], variables["end_user_prefix"])
    parameters = dict(customer_edge.parameters(variables, ce), softwire=softwire)
    return {
        "parameters": parameters,
        "settings": customer_edge.settings(parameters),
        "jool": customer_edge.jool_configuration(parameters),
    }


class FilterModule:
    def filters(self):
        return {"edge": edge}
