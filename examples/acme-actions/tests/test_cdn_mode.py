"""``acme.cdn_mode`` keeps the contract of actions, against a CDN that really answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from acme_actions.cdn import cdn_mode

from ha_tasks.adapters.clock import SystemClock
from ha_tasks.errors import ActionFailed, PassingFailure
from ha_tasks.model.platform import Instance, Platform, Role, Service, ServiceKind
from ha_tasks.model.playbook import VerifySettings
from ha_tasks.ports.action import ActionTools, StepContext
from ha_tasks.workflows.actions.conformance import Trial, check_action

from .cdn_server import TOKEN, Cdn, running_cdn

SHOP = Service(
    name="web",
    kind=ServiceKind.HTTP,
    instances=(Instance(name="web1", service="web", host="app", address="127.0.0.1:8101", role=Role.ACTIVE),),
)


@pytest.fixture
def cdn() -> Iterator[Cdn]:
    with running_cdn() as running:
        yield running


def tools(url: str, token: str = TOKEN) -> ActionTools:
    return ActionTools(
        name="acme.cdn_mode",
        platform=Platform(name="acme", services={"web": SHOP}, hosts={}, balancers={}),
        clock=SystemClock(),
        settings={"url": url},
        secret=lambda _: token,
    )


def context(**args: str) -> StepContext:
    return StepContext(
        run=1,
        step=1,
        key="run-1-step-1",
        service=SHOP,
        incident=None,
        args=args or {"zone": "www", "mode": "shield"},
        captured={},
        outputs={},
        fence=1,
        verify=VerifySettings(),
        remaining_s=lambda: 5.0,
        lost=lambda: False,
    )


def test_it_keeps_the_contract(cdn: Cdn):
    trial = Trial(context=context(), look=lambda: dict(cdn.modes), cut=cdn.losing_answers, fenced=True)

    assert check_action(cdn_mode(tools(cdn.url)), trial) == ()
    assert cdn.modes == {"www": "pass"}


def test_a_cdn_that_is_away_passes_by_itself_and_a_wrong_token_does_not(cdn: Cdn):
    with pytest.raises(PassingFailure, match="the CDN does not answer"):
        cdn_mode(tools("http://127.0.0.1:1")).do(context())
    with pytest.raises(ActionFailed, match="the CDN refused it: 401"):
        cdn_mode(tools(cdn.url, token="wrong")).do(context())
    with pytest.raises(ActionFailed, match="the CDN refused it: 404"):
        cdn_mode(tools(cdn.url)).do(replace(context(), args={"zone": "nowhere", "mode": "shield"}))
