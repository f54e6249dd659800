"""The presentation contexts that a peer refused, summed up: it is asked for by SOP class, not by file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from dicomtls_cli.cli.terminal import counted
from dicomtls_cli.services.sending.outcome import Outcome


class Refusals:
    """How many instances could not be sent, by SOP class, transfer syntax and the peer's reason."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def add(self, outcome: Outcome) -> None:
        """Count the instance of `outcome`, if a refused presentation context is what kept it."""
        if outcome.refusal:
            instance = outcome.instance
            self._counts[instance.sop_class, instance.transfer_syntax, outcome.refusal] += 1

    def lines(self) -> Iterator[str]:
        """Yield what was refused, a heading for each SOP class and a line for each transfer syntax."""
        if not self._counts:
            return
        from dicomtls_cli.services.sending.plan import uid_name

        yield "not taken by the peer:"
        heading = ""
        for (sop_class, syntax, reason), count in sorted(self._counts.items()):
            if sop_class != heading:
                heading = sop_class
                name = uid_name(sop_class)
                yield f"  {name}" + (f" ({sop_class})" if name != sop_class else "")
            yield f"    {uid_name(syntax)}: {counted(count, 'file')}, {reason}"

    def records(self) -> list[dict[str, Any]]:
        """Return the same as values for JSON."""
        return [
            {"sop_class": sop_class, "transfer_syntax": syntax, "reason": reason, "instances": count}
            for (sop_class, syntax, reason), count in sorted(self._counts.items())
        ]
