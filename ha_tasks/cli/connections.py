"""``ha-tasks check --connect``: every server that the inventory names, asked once. Reads only.

Each answer is a row: what was asked, whether it is well, what it said, and what mends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain

from ha_tasks.errors import HaTasksError
from ha_tasks.model.balancer import ServerStatus
from ha_tasks.model.led_by_others import LedCluster
from ha_tasks.model.platform import External, Platform, Service, ServiceKind
from ha_tasks.model.probe import OutcomeKind, ProbeOutcome
from ha_tasks.model.system_health import Examined
from ha_tasks.ports.balancer import BalancerControl
from ha_tasks.workflows.store_watch import is_led


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``remedy`` is empty when it is well."""

    what: str
    ok: bool
    said: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """The ways to the servers. A call that raises HaTasksError is an answer too.

    ``entry`` asks a service through the balancer, ``manager`` the one who leads it in our place; ``broker``
    None: this kind of broker is not asked.
    """

    probe: Callable[[Sequence[Service]], Sequence[ProbeOutcome]]
    node_status: Callable[[str], object]
    unit_status: Callable[[str, str], object]
    balancers: Mapping[str, BalancerControl]
    entry: Callable[[Service], object]
    manager: Callable[[Service], LedCluster]
    broker: Callable[[], object] | None
    store: Callable[[], object]
    outside: Callable[[External], Examined]
    file_status: Callable[[str, str], object] = lambda _host, _file: None
    store_faults: Callable[[], Iterable[Answer]] = tuple
    cluster_faults: Callable[[], Iterable[Answer]] = tuple


def answers(platform: Platform, lines: Lines) -> tuple[Answer, ...]:
    """Every answer; all are asked side by side, so it takes as long as the slowest."""
    questions: list[Callable[[], Sequence[Answer]]] = [
        lambda: list(lines.store_faults()),
        lambda: [_asked("store", lines.store, "is [store] right, and does its server run?")],
        lambda: _broker(lines),
        lambda: _instances(platform, lines),
        *(_agent_question(platform, lines, host) for host in platform.hosts),
        *(_balancer_question(platform, name, control) for name, control in lines.balancers.items()),
        *(partial(_manager, service, lines) for service in platform.services.values() if managed(service)),
        lambda: [_through(service, lines) for service in platform.services.values() if service.routing],
        lambda: list(lines.cluster_faults()),
        *(partial(_outside, each, lines) for each in platform.external.values()),
    ]
    with ThreadPoolExecutor(max_workers=len(questions), thread_name_prefix="check") as pool:
        return tuple(chain.from_iterable(pool.map(lambda question: question(), questions)))


def _asked(what: str, ask: Callable[[], object], remedy: str) -> Answer:
    try:
        ask()
    except HaTasksError as error:
        return Answer(what=what, ok=False, said=str(error), remedy=remedy)
    return Answer(what=what, ok=True, said="answers")


def _broker(lines: Lines) -> list[Answer]:
    if lines.broker is None:
        return [Answer(what="broker", ok=True, said="not asked: only redis and rediss can be")]
    return [_asked("broker", lines.broker, "is [broker] right, and does its server run?")]


def managed(service: Service) -> bool:
    """True where somebody can be asked who leads it."""
    return service.patroni is not None or service.sentinel is not None


def _manager(service: Service, lines: Lines) -> list[Answer]:
    """Its manager, and whether it knows the nodes by the names or addresses that the inventory has."""
    key = f"services.{service.name}.{service.managed_by}"
    sentinel = service.sentinel is not None
    try:
        found = lines.manager(service)
    except HaTasksError as error:
        right = "addresses right, and name the one of sentinel monitor?"
        remedy = f"is {key}.{right if sentinel else 'api right: restapi.connect_address of its members?'}"
        return [Answer(what=key, ok=False, said=str(error), remedy=remedy)]
    leader = f"{found.leader} leads" if found.leader else "nobody leads"
    strangers = sorted({m.name for m in found.members} ^ {i.name for i in service.instances})
    if not strangers:
        return [Answer(what=key, ok=True, said=f"answers, {leader}")]
    remedy = f"name the instances of {service.name} as Patroni names its members"
    if sentinel:
        remedy = f"write the addresses of {service.name} as Sentinel knows them (replica-announce-ip)"
    said = f"answers, {leader}; only one side knows {', '.join(strangers)}"
    return [Answer(what=key, ok=False, said=said, remedy=remedy)]


def _outside(dependency: External, lines: Lines) -> list[Answer]:
    """What the platform needs and does not own."""
    found = lines.outside(dependency)
    what = f"external.{dependency.name} ({dependency.target})"
    return [Answer(what=what, ok=found.well, said=found.problem or "answers", remedy=found.remedy)]


def _through(service: Service, lines: Lines) -> Answer:
    """A service asked at the balancer's port."""
    entry = service.routing.entry if service.routing else ""
    what = f"services.{service.name}.routing ({entry})"
    try:
        lines.entry(service)
    except HaTasksError as error:
        remedy = f"is services.{service.name}.routing.entry the balancer's port, with a server up behind it?"
        return Answer(what=what, ok=False, said=str(error), remedy=_by_word(service, str(error)) or remedy)
    return Answer(what=what, ok=True, said="answers")


def _instances(platform: Platform, lines: Lines) -> list[Answer]:
    outcomes = lines.probe(list(platform.services.values()))
    return [_instance(platform, outcome) for outcome in outcomes]


def _instance(platform: Platform, outcome: ProbeOutcome) -> Answer:
    service = platform.services[outcome.target.service]
    instance = service.instance(outcome.target.instance)
    what = f"services.{service.name}.instances.{instance.name} ({instance.address})"
    if outcome.ok:
        return Answer(what=what, ok=True, said=f"answers within {outcome.rtt_s * 1000:.0f} ms")
    said = f"{outcome.kind}: {outcome.detail}" if outcome.detail else str(outcome.kind)
    return Answer(what=what, ok=False, said=said, remedy=remedy_for(service, outcome))


def remedy_for(service: Service, outcome: ProbeOutcome) -> str:
    """What mends a probe that failed."""
    if service.kind is ServiceKind.HTTP and outcome.kind is OutcomeKind.ERROR:
        return f"is services.{service.name}.check right (path, expect_status)?"
    return _by_word(service, outcome.detail) or _BY_KIND[outcome.kind]


def _by_word(service: Service, said: str) -> str:
    """What mends a refusal, by the words of the server; '' when they are not known here."""
    for words, remedy in _BY_WORD:
        if service.kind is not ServiceKind.HTTP and any(word in said.lower() for word in words):
            return remedy.format(key=f"services.{service.name}.{service.kind}")
    return ""


_BY_WORD = (
    (
        ("password", "noauth", "wrongpass", "authentication"),
        "put the right password where {key}.password leads",
    ),
    (("pg_hba", "no encryption"), "let {key}.user in: pg_hba.conf of that server"),
    (
        ("not accepting connections",),
        "set hot_standby = on there and restart it: a standby without sessions can be neither revoked nor "
        "promoted",
    ),
    (("role ", "grant "), "create the role {key}.user as ha_tasks/privileges/cluster-roles.sql does"),
    (("database ",), "is {key}.database right?"),
)
_BY_KIND = {
    OutcomeKind.REFUSED: "nobody listens there: start it, or mend address",
    OutcomeKind.TIMEOUT: "is the address right, a firewall in between, or check.timeout_s too short?",
    OutcomeKind.ERROR: "it answers, but not as it should: look into its log",
    OutcomeKind.OK: "",
}


def _agent_question(platform: Platform, lines: Lines, host: str) -> Callable[[], Sequence[Answer]]:
    remedy = "start the agent there, with the same key as agents.key; is hosts.{host}.agent right?"

    def ask() -> list[Answer]:
        here = [i for s in platform.services.values() for i in s.instances if i.host == host]
        files = [f.name for s in platform.services.values() for f in s.files if f.host == host]
        nodes = [i.name for i in here if is_led(platform.services[i.service])]
        calls: list[tuple[str, Callable[[], object]]] = [
            *((f"node {name}", lambda name=name: lines.node_status(name)) for name in nodes),
            *((f"unit {i.unit}", lambda unit=i.unit: lines.unit_status(host, unit)) for i in here if i.unit),
            *((f"file {name}", lambda name=name: lines.file_status(host, name)) for name in files),
        ]
        return [_asked(f"hosts.{host} ({what})", call, remedy.format(host=host)) for what, call in calls]

    return ask


def _balancer_question(
    platform: Platform, name: str, control: BalancerControl
) -> Callable[[], Sequence[Answer]]:
    def ask() -> list[Answer]:
        try:
            servers = control.servers()
        except HaTasksError as error:
            remedy = f"does HAProxy run, with a stats socket (level admin) at balancers.{name}.socket?"
            return [Answer(what=f"balancers.{name}", ok=False, said=str(error), remedy=remedy)]
        missing = list(_missing(platform, servers))
        said = f"answers, {len(servers)} servers"
        return [
            Answer(what=f"balancers.{name}", ok=True, said=said),
            *(
                Answer(what=f"balancers.{name}", ok=False, said=f"has no server {each}", remedy=_ADD_SERVER)
                for each in missing
            ),
        ]

    return ask


_ADD_SERVER = "add it to haproxy.cfg: server names are instance names"


def _missing(platform: Platform, servers: Sequence[ServerStatus]) -> Iterator[str]:
    """``backend/server`` that the inventory expects in a balancer and that it does not have."""
    present = {(status.backend, status.server) for status in servers}
    for service in platform.services.values():
        routing = service.routing
        backends = (routing.backend, routing.read_backend) if routing else ()
        for backend in filter(None, backends):
            for instance in service.instances:
                if (backend, instance.name) not in present:
                    yield f"{backend}/{instance.name}"
