"""One sender of an account's transactions: a queue in the store, one thread that sends, many in flight.

`acts` says what can be queued, `rules` decides, `queue` keeps, `courier` hands over, `outcomes` looks what became of
it, `sending` has the thread. `protection`, `foreign` and `instances` see to it that nothing is signed that contradicts
what was signed before, here or in another copy of the operator.
"""

from trine_operator.outbox.acts import Act, Due, Guard, Submits
from trine_operator.outbox.sending import Outbox

__all__ = ["Act", "Due", "Guard", "Outbox", "Submits"]
