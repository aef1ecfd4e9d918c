"""haproxy.cfg as it should be, for HAProxy 2.6 and later: generated, so that nobody has to remember.

Each choice comes from a measurement (see haproxy_lint.py): for HTTP the balancer's own retries lose nothing
when a server dies, where the best outside controller loses what fails until it acts. They may only repeat
what is safe to repeat, so other methods than GET and HEAD are never sent twice. For databases retries only
hold clients on a dead server, and sessions of a server that is marked down are ended: no client waits for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ha_tasks.model.platform import Check, Instance, ManagedBy, Platform, Role, Routing, Service, ServiceKind

TIGHT = "check inter 500ms fall 2 rise 1 weight 100"
OBSERVED = "observe layer4 error-limit 3 on-error mark-down"
REQUEST_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """``closed``: it starts in maintenance. ``check_port``: where its health is asked, else at its own."""

    name: str
    address: str
    closed: bool = False
    check_port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """A frontend and the backend behind it, both of that name; ``bind`` is ``host:port`` or ``:port``.

    ``database``: a stream without retries. ``check``: of HTTP, or of a manager's API (``check_method``);
    None: a connection that opens is good. ``source``: address from which HAProxy comes to the servers.
    """

    name: str
    bind: str
    servers: tuple[Server, ...]
    database: bool = False
    check: Check | None = None
    check_method: str = "GET"
    host: str = "localhost"
    certificate: str = ""
    request_timeout_s: float = REQUEST_TIMEOUT_S
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What the inventory gives: the pools, and for each service that has none the reason."""

    pools: tuple[Pool, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


def render(socket: str, pools: Iterable[Pool], head: Sequence[str], rest: Sequence[str] = ()) -> str:
    """The text of haproxy.cfg. ``socket``: of the runtime API; ``head``: comments; ``rest``: the end."""
    lines = [*(f"# {line}".rstrip() for line in head), *_global(socket)]
    for pool in pools:
        lines += _stream(pool) if pool.database else _http(pool)
    return "\n".join((*lines, *rest, ""))


def drawn(platform: Platform, request_timeout_s: float = REQUEST_TIMEOUT_S) -> Drawn:
    """Every routed service of the inventory as pools.

    Spares and the nodes of a cluster start in maintenance: the control plane opens who is to serve within
    two seconds, and a balancer that comes back while it is away never opens a superseded primary.
    """
    pools: list[Pool] = []
    left_out: dict[str, str] = {}
    for service in platform.services.values():
        if service.routing is None:
            left_out[service.name] = "it has no routing"
        elif service.managed_by is ManagedBy.EXTERNAL and service.kind is ServiceKind.POSTGRES:
            left_out[service.name] = "who leads it decides where its writes go"
        elif service.kind is ServiceKind.HTTP:
            pools.append(_web_pool(service, service.routing, request_timeout_s))
        else:
            pools += _database_pools(service, service.routing)
    return Drawn(pools=tuple(pools), left_out=left_out)


def expected_servers(platform: Platform) -> dict[str, tuple[str, ...]]:
    """Backend -> the servers that the inventory has there."""
    names: dict[str, tuple[str, ...]] = {}
    for service in platform.services.values():
        for backend in _backends(service):
            names[backend] = (*names.get(backend, ()), *(i.name for i in service.instances))
    return names


def database_backends(platform: Platform) -> frozenset[str]:
    """Backends in front of a database."""
    services = [s for s in platform.services.values() if s.kind is not ServiceKind.HTTP]
    return frozenset(backend for service in services for backend in _backends(service))


def _backends(service: Service) -> tuple[str, ...]:
    routing = service.routing
    return tuple(b for b in (routing.backend, routing.read_backend) if b) if routing else ()


def _web_pool(service: Service, routing: Routing, request_timeout_s: float) -> Pool:
    url = urlsplit(routing.entry)
    tls = url.scheme == "https"
    return Pool(
        name=routing.backend,
        bind=_bind(url.hostname or "", url.port or (443 if tls else 80)),
        servers=tuple(_server(i, closed=i.role is Role.SPARE) for i in service.instances),
        check=service.check,
        host=url.hostname or "localhost",
        certificate=f"/etc/haproxy/certs/{service.name}.pem" if tls else "",
        request_timeout_s=request_timeout_s,
    )


def _database_pools(service: Service, routing: Routing) -> list[Pool]:
    places = [(routing.backend, routing.entry, "/primary")]
    if routing.read_backend and routing.read_entry:
        places.append((routing.read_backend, routing.read_entry, "/replica"))
    return [_database_pool(service, *place) for place in places]


def _database_pool(service: Service, backend: str, entry: str, asked: str) -> Pool:
    """A cluster that Patroni leads is opened by Patroni's answers, as its manual says, not by us."""
    parts = urlsplit(f"//{entry}")
    led = service.patroni is not None
    return Pool(
        name=backend,
        bind=_bind(parts.hostname or "", parts.port or 5432),
        servers=tuple(
            _server(
                i,
                closed=not led and (service.kind is ServiceKind.POSTGRES or i.role is Role.SPARE),
                check_port=_api_port(service, i),
            )
            for i in service.instances
        ),
        database=True,
        check=Check(path=asked) if led else None,
        check_method="OPTIONS",
    )


def _api_port(service: Service, instance: Instance) -> int | None:
    """Port of the member's REST API: the one on its machine, else the one that the first has."""
    if service.patroni is None:
        return None
    urls = [urlsplit(url) for url in service.patroni.urls]
    host = urlsplit(f"//{instance.address}").hostname
    return next((url.port for url in urls if url.hostname == host), urls[0].port)


def _server(instance: Instance, *, closed: bool, check_port: int | None = None) -> Server:
    return Server(name=instance.name, address=instance.address, closed=closed, check_port=check_port)


def _bind(host: str, port: int) -> str:
    """On loopback when clients are there, else on every address: a shared one may be elsewhere just now."""
    loopback = host in ("localhost", "::1") or host.startswith("127.")
    return f"127.0.0.1:{port}" if loopback else f":{port}"


def _global(socket: str) -> Sequence[str]:
    scheme, _, where = socket.partition("://")
    bind = _quoted(where) if scheme == "unix" else f"ipv4@{where}"
    return (
        "global",
        "    maxconn 1000",
        f"    stats socket {bind} level admin" + (" mode 600" if scheme == "unix" else ""),
        "    stats timeout 10s",
        "    hard-stop-after 3s",
        "",
        "defaults",
        "    timeout connect 500ms",
        "    timeout check 300ms",
        "    timeout queue 1s",
    )


def _http(pool: Pool) -> Sequence[str]:
    check = pool.check or Check()
    ssl = f" ssl crt {pool.certificate}" if pool.certificate else ""
    return (
        "",
        f"frontend {pool.name}",
        "    mode http",
        f"    bind {pool.bind}{ssl}",
        "    timeout client 30s",
        "    timeout http-request 5s",
        "    timeout http-keep-alive 10s",
        f"    default_backend {pool.name}",
        "",
        f"backend {pool.name}",
        "    mode http",
        "    balance roundrobin",
        f"    timeout server {_ms(pool.request_timeout_s)}",
        "    option redispatch 1",
        "    retries 2",
        "    retry-on all-retryable-errors",
        "    http-request disable-l7-retry if !METH_GET",
        *_asked(check, pool),
        f"    default-server {TIGHT} {OBSERVED}",
        *_servers(pool.servers),
    )


def _stream(pool: Pool) -> Sequence[str]:
    return (
        "",
        f"frontend {pool.name}",
        "    mode tcp",
        f"    bind {pool.bind}",
        "    timeout client 1h",
        "    option clitcpka",
        f"    default_backend {pool.name}",
        "",
        f"backend {pool.name}",
        "    mode tcp",
        "    balance leastconn",
        "    timeout server 1h",
        "    option srvtcpka",
        "    retries 0",
        *(_asked(pool.check, pool) if pool.check else ("    option tcp-check",)),
        *((f"    source {pool.source}",) if pool.source else ()),
        f"    default-server {TIGHT} on-marked-down shutdown-sessions",
        *_servers(pool.servers),
    )


def _asked(check: Check, pool: Pool) -> Sequence[str]:
    sent = f"meth {pool.check_method} uri {_quoted(check.path)} ver HTTP/1.1 hdr Host {pool.host}"
    return (
        "    option httpchk",
        f"    http-check send {sent}",
        f"    http-check expect status {check.expect_status}",
    )


def _servers(servers: Collection[Server]) -> Sequence[str]:
    return tuple(
        f"    server {server.name} {server.address}"
        + (f" port {server.check_port}" if server.check_port else "")
        + (" disabled" if server.closed else "")
        for server in servers
    )


def _ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _quoted(text: str) -> str:
    """In HAProxy's strong quotes nothing is special but the quote itself."""
    return "'" + text.replace("'", "'\\''") + "'"
