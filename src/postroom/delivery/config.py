"""How a worker works: the numbers a team may turn, with the reasons for their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from postroom import checks
from postroom.errors import ConfigError
from postroom.message.templates import DEFAULT_BUDGET, RenderBudget
from postroom.states import Lane
from postroom.text import shorten_repr

_LANE_WEIGHTS = {Lane.URGENT: 8, Lane.NORMAL: 4, Lane.BULK: 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """The settings of one worker. Times are in seconds.

    Attributes:
        lease_s: How long a claim holds before it is anybody's again; renewed while work goes on.
            It is also how long the recipients of a killed worker wait.
        claim_batch_size: The most recipients claimed at once. Fewer are claimed from a slow
            relay.
        max_uncommitted: The most outcomes that may be known to a relay and not yet to the
            database.
        poll_interval_s: How often the database is asked for due mail when nothing wakes the worker.
        shutdown_grace_s: How long a stopping worker waits for what is on the wire.
        in_doubt_retry_s: When a recipient in doubt is sent again (``on_doubt="resend"``); each
            time twice as late.
        max_resends: So often a recipient in doubt is sent again; then it is held for a person to
            decide.
        max_claims_without_outcome: A recipient claimed this often without an outcome is set
            aside.
        lane_weights: How lanes share a claim when all of them have mail waiting.
        render_budget: What the templates of one message may take to render, at delivery and at
            enqueue.
        debug_loop: Whether to log a warning, with the stack, where something holds all
            conversations of the worker up for more than 50 ms. For development.

    Raises:
        ConfigError: A number is not positive, or a lane has no weight.
    """

    lease_s: float = 120.0
    claim_batch_size: int = 500
    max_uncommitted: int = 200
    poll_interval_s: float = 1.0
    shutdown_grace_s: float = 25.0
    in_doubt_retry_s: float = 900.0
    max_resends: int = 5
    max_claims_without_outcome: int = 5
    lane_weights: Mapping[Lane, int] = field(default_factory=lambda: dict(_LANE_WEIGHTS))
    render_budget: RenderBudget = DEFAULT_BUDGET
    debug_loop: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that would stop the worker from working."""
        for setting in fields(self):
            value = getattr(self, setting.name)
            if setting.type == "int":
                checks.count(value, setting.name)
            elif setting.type == "float":
                checks.seconds(value, setting.name)
        checks.instance(bool, self.debug_loop, "debug_loop")
        checks.instance(RenderBudget, self.render_budget, "render_budget")
        if not isinstance(self.lane_weights, Mapping):
            raise ConfigError(
                f"lane_weights must be a mapping, not {shorten_repr(self.lane_weights)}"
            )
        for lane, weight in self.lane_weights.items():
            checks.member(Lane, lane, "a lane")
            checks.count(weight, f"the weight of a lane ({lane})", least=0, most=1_000_000)
        if missing := [lane.value for lane in Lane if self.lane_weights.get(lane, 0) < 1]:
            raise ConfigError(
                f"every lane needs a weight of at least 1; there is none for {', '.join(missing)}"
            )
