"""What a switchover is judged by, asked of the servers and their agents. Reads only."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from ha_tasks.errors import HaTasksError
from ha_tasks.model.cluster import Cluster
from ha_tasks.model.platform import Service
from ha_tasks.model.switchover import (
    LONGEST_TRANSACTION_S,
    MOST_LAG_BYTES,
    Standby,
    SwitchoverFacts,
    Transaction,
)
from ha_tasks.ports.host import DatabaseAgent, Postmaster
from ha_tasks.workflows.cluster_moves import PostgresTools

ASKED_S = 1.0


def standbys_seen(agents: DatabaseAgent, nodes: Collection[str]) -> dict[str, Standby | None]:
    """What each node's agent says of it, side by side, within a second; None: it is silent."""

    def seen(node: str) -> Standby | None:
        try:
            status = agents.status(node, timeout_s=ASKED_S)
        except HaTasksError:  # a silent agent is an answer here
            return None
        return Standby(
            running=status.postmaster is Postmaster.RUNNING,
            in_recovery=status.in_recovery,
            upstream=status.upstream,
            receiving=status.receiving,
            promotion_begun=status.promotion_begun,
            timeline=status.timeline,
            lsn=status.lsn,
        )

    with ThreadPoolExecutor(max_workers=max(1, len(nodes))) as pool:
        return dict(zip(nodes, pool.map(seen, nodes), strict=True))


def switchover_facts(
    tools: PostgresTools,
    service: Service,
    cluster: Cluster,
    candidate: str,
    *,
    most_lag_bytes: int = MOST_LAG_BYTES,
    longest_transaction_s: float = LONGEST_TRANSACTION_S,
) -> SwitchoverFacts:
    """Of this moment; nobody is waited for longer than a second or two."""
    primary = service.instance(cluster.primary)
    others = [i.name for i in service.instances if i.name != cluster.primary]
    seen = standbys_seen(tools.agents, [cluster.primary, *others])
    lsn: int | None = None
    error = ""
    streaming: frozenset[str] = frozenset()
    long: tuple[Transaction, ...] = ()
    try:
        streaming = tools.control.streaming(service, primary)
        long = tools.control.transactions(service, primary, longest_transaction_s)
        lsn = tools.control.flush_lsn(service, primary)
    except HaTasksError as cause:  # who does not answer is an objection of its own
        error = str(cause)
    return SwitchoverFacts(
        cluster=cluster,
        candidate=candidate,
        standbys={name: seen[name] for name in others},
        streaming=streaming,
        primary_agent=seen[cluster.primary] is not None,
        primary_lsn=lsn,
        transactions=long,
        most_lag_bytes=most_lag_bytes,
        primary_error=error,
    )
