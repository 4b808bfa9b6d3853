"""The parameters of a customer edge for the role idiomatic_ce, so that both roles pay for the same arithmetic once."""
from __future__ import annotations

from ansible_collections.softwire.map.plugins.module_utils.mapping.errors import Faults
from ansible_collections.softwire.map.plugins.module_utils.routers import ce_variables, customer_edge
from ansible_collections.softwire.map.plugins.module_utils.routers.variables import Variables


def edge(variables, carrier):
    """variables: as the action plugin takes them. Returns the parameters, with instance.json and jool.json as data."""
    record = ce_variables.read(Variables("map_ce_", variables, Faults()), "ce")
    parameters = customer_edge.parameters(record, carrier)
    return {
        "parameters": parameters,
        "settings": customer_edge.machine(parameters),
        "jool": customer_edge.jool_configuration(parameters),
    }


class FilterModule:
    def filters(self):
        return {"edge": edge}
