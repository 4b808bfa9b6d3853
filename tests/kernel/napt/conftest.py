"""One lab per port set, shared by the tests of a module; each test starts without connections."""

from __future__ import annotations

import pytest
from napt_cases import CASES
from napt_lab import Lab


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(scope="module")
def ruleset(case, tmp_path_factory):
    path = tmp_path_factory.mktemp("napt") / "napt.nft"
    path.write_text(case.render(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shared_lab(case, ruleset):
    made = Lab(case.own, case.address)
    try:
        made.load(ruleset)
        made.attach(case.programs(made.instance))
        yield made
    finally:
        made.close()


@pytest.fixture
def lab(shared_lab):
    shared_lab.forget()
    return shared_lab
