"""One update cut into several that apply in order, each small enough to be applied at once (R17).

For snapshots: a journal stores them in slices, so that a load never holds the loop for one large apply.
"""

from crdt.errors import LocalError
from crdt.gate import Gate
from crdt.limits import GateLimits


def slice_update(update: bytes, limits: GateLimits) -> list[bytes]:
    """Cut an update that depends on nothing outside itself. An update without content gives no slices.

    Each slice has at most `slice_blocks` blocks and delete ranges, and about `slice_bytes` bytes; applied in order to an
    empty document they make what the whole makes. Raises what the gate raises, and `LocalError` if something is missing.
    """
    gate = Gate(limits)
    admission = gate.admit(update, ref=0, owner=0)
    if admission.waiting:
        raise LocalError(f"update can't be sliced, it lacks clocks of clients {list(gate.missing())[:10]}")
    return list(admission.updates)
