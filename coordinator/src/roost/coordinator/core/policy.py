"""What a policy must keep to beside the form of its fields."""

from collections import Counter

from roost.protocol.round.messages import RoundPolicy
from roost.wire.ids import MAX_DERIVED_LENGTH, derive

_SHOWN = 5


def policy_problem(policy: RoundPolicy, id_: str) -> str | None:
    """Say why a policy cannot be carried out under the id of its round, or None."""
    invited = policy.participants
    longest = max((len(derive(id_, each)) for each in invited), default=0)
    if longest > MAX_DERIVED_LENGTH:
        return f"round id and participant have {longest} letters, {MAX_DERIVED_LENGTH} are allowed"
    if not invited:
        return "participants is empty"
    twice = sorted(each for each, count in Counter(invited).items() if count > 1)
    if twice:
        return f"participants names {', '.join(twice[:_SHOWN])} more than once"
    if policy.k_of_n > len(invited):
        return f"k_of_n is {policy.k_of_n}, but only {len(invited)} are invited"
    if policy.min_updates > policy.k_of_n:
        return f"min_updates is {policy.min_updates}, more than k_of_n, which is {policy.k_of_n}"
    return None
