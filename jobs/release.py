"""Publish a held night after all, or a withdrawn one again; who decided and why is kept in `nights`.

reads   root/_staging, nights
writes  recommendations (one partition), nights

    recs release 2024-03-31 --reason "…" [--list main] [--root warehouse]
"""
from __future__ import annotations

from recs.jobs._cli import decide_by_hand
from recs.serve.publish import release


def main(argv: list[str] | None = None) -> int:
    """The command."""
    return decide_by_hand(__doc__, "release", release, argv)


if __name__ == "__main__":
    raise SystemExit(main())
