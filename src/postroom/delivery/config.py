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

    Raises:
        ConfigError: a number is not positive, or a lane has no weight.
    """

    #: How long a claim holds before it is anybody's again; renewed while work goes on. It is
    #: also how long the recipients of a killed worker wait.
    lease_s: float = 120.0
    #: The most recipients claimed at once. Fewer are claimed from a slow relay.
    claim_batch_size: int = 500
    #: The most outcomes that may be known to a relay and not yet to the database.
    max_uncommitted: int = 200
    #: How often the database is asked when nobody gives a hint.
    poll_interval_s: float = 1.0
    #: How long a stopping worker waits for what is on the wire.
    shutdown_grace_s: float = 25.0
    #: When a recipient in doubt is sent again (``on_doubt="resend"``); each time twice as late.
    in_doubt_retry_s: float = 900.0
    #: So often a recipient in doubt is sent again; then it is held for a person to decide.
    max_resends: int = 5
    #: A recipient claimed this often without an outcome is set aside.
    max_claims_without_outcome: int = 5
    #: How lanes share a claim when all of them have mail waiting.
    lane_weights: Mapping[Lane, int] = field(default_factory=lambda: dict(_LANE_WEIGHTS))
    #: What the templates of one message may take to render, at delivery and at enqueue.
    render_budget: RenderBudget = DEFAULT_BUDGET
    #: Whether to log a warning, with the stack, where something holds all conversations of the
    #: worker up for more than 50 ms. For development.
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
                f"expected a weight of at least 1 for every lane, got none for: {missing}"
            )
