"""How many nodes a stack has: ports, hosts, inventory, and the number that a home keeps."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from ha_tasks.embedded import inventory
from ha_tasks.embedded.home import Home, home_at
from ha_tasks.embedded.layout import MOST_STANDBYS, hosts_of, node_names, nodes_at, nodes_of, standbys_for
from ha_tasks.embedded.ports import DEFAULTS, TRIES, defaults_for
from ha_tasks.errors import UsageError


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_at(tmp_path)


def started(home: Home, standbys: int) -> None:
    """What a start leaves behind."""
    home.ports.write_text(json.dumps(defaults_for(standbys)))
    for node in node_names(standbys):
        home.data_dir(node).mkdir(parents=True)


def test_the_usual_stack_has_the_usual_ports():
    assert defaults_for(2) == DEFAULTS


@pytest.mark.parametrize("standbys", range(1, MOST_STANDBYS + 1))
def test_every_node_and_every_agent_has_a_port_of_its_own(standbys: int):
    ports = defaults_for(standbys)

    assert len(set(ports.values())) == len(ports)
    assert nodes_of(ports) == tuple(f"pg{n}" for n in range(1, standbys + 2))
    assert {f"agent-{host}" for host in hosts_of(ports)} <= set(ports)
    assert max(ports.values()) + TRIES < 32768


@pytest.mark.parametrize("standbys", [1, 8])
def test_the_inventory_has_an_instance_and_a_host_for_each_node(standbys: int):
    read = tomllib.loads(inventory.render(defaults_for(standbys), "unix:///s"))
    nodes = [instance["name"] for instance in read["services"]["db"]["instances"]]

    assert nodes == list(node_names(standbys))
    assert set(read["hosts"]) == {*nodes, "app"}


def test_a_home_keeps_its_number_of_standbys(home: Home):
    assert standbys_for(home, None) == 2
    assert standbys_for(home, 4) == 4
    started(home, 4)

    assert nodes_at(home) == node_names(4)
    assert standbys_for(home, None) == 4
    assert standbys_for(home, 4) == 4


def test_a_cluster_that_stands_there_is_not_given_another_number(home: Home):
    started(home, 3)

    with pytest.raises(UsageError, match="has 3 standbys, not 2: start it without --standbys"):
        standbys_for(home, 2)


@pytest.mark.parametrize("standbys", [0, 9])
def test_a_number_that_is_not_offered_is_refused(home: Home, standbys: int):
    with pytest.raises(UsageError, match="--standbys must be 1 to 8"):
        standbys_for(home, standbys)
