"""The coordinator's own retained state: what runs, and what was refused outside any round."""

from dataclasses import replace

from roost.chassis.effects import Publish, note
from roost.coordinator.core.draft import Draft
from roost.coordinator.core.state import Ledger
from roost.protocol.round.messages import CoordinatorState
from roost.protocol.round.topics import COORDINATOR_STATE
from roost.wire.refusal import Refusal


def count_refusal(draft: Draft, refusal: Refusal, detail: str) -> None:
    """Count a refusal that belongs to no round, log it and show it."""
    ledger: Ledger = draft.get("ledger", "") or Ledger()
    count = ledger.refusals.get(refusal.name, 0) + 1
    said = f"{refusal.name} ({refusal.code}): {detail}. {refusal.cure}"
    draft.emit(note("order.refused", "warning", refusal.name, why=said))
    _write(
        draft,
        replace(
            ledger, refusals={**ledger.refusals, refusal.name: count}, last_refusal=said[:4096]
        ),
    )


def show_running(draft: Draft) -> None:
    """Show which rounds and experiments run, if that changed or nothing was ever shown."""
    known: Ledger | None = draft.get("ledger", "")
    ledger = known or Ledger()
    rounds = (each.round_id for each in draft.all("round").values() if not each.status.final)
    experiments = (
        each.experiment_id for each in draft.all("experiment").values() if not each.status.final
    )
    after = replace(ledger, open_rounds=tuple(rounds), running_experiments=tuple(experiments))
    if after != known:
        _write(draft, after)


def show_unadopted(draft: Draft, names: tuple[str, ...]) -> None:
    """Show which models are not this coordinator's to number, if that changed."""
    ledger: Ledger = draft.get("ledger", "") or Ledger()
    if names != ledger.unadopted:
        _write(draft, replace(ledger, unadopted=names))


def _write(draft: Draft, ledger: Ledger) -> None:
    draft.put("ledger", "", ledger)
    state = CoordinatorState(
        open_rounds=ledger.open_rounds,
        running_experiments=ledger.running_experiments,
        unadopted=ledger.unadopted,
        refusals=dict(ledger.refusals),
        last_refusal=ledger.last_refusal,
    )
    draft.emit(Publish(COORDINATOR_STATE.template, state.encode(), retain=True))
