"""Take a published night back: readers see the night before; who decided and why is kept in `nights`.

reads   nights
writes  recommendations (the night's partition goes), nights

    recs hold 2024-03-31 --reason "…" [--list main] [--root warehouse]
"""
from __future__ import annotations

from recs.jobs._cli import decide_by_hand
from recs.serve.publish import hold


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return decide_by_hand(__doc__, "hold", hold, argv)


if __name__ == "__main__":
    raise SystemExit(main())
