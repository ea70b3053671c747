"""Stage the examples that models learn from: what `recs train` does first, as a job of its own.

reads   sequences, item_hours, item_vocabulary, items (as of each earlier cut; nothing at or after the night's own cut)
writes  root/_examples: a folder of Parquet per earlier night with its manifest, the prior, and a book that names them

    recs build-examples --root warehouse --as-of 2024-03-31T00:00:00Z
    spark-submit jobs/build_examples.py --config my.yaml --root /data/recs --as-of 2024-03-31T00:00:00Z

The cuts are `fit.train_nights` horizons before the night, or up to `fit.max_train_nights` where those have fewer lists than
`fit.train_lists`, which bounds them; the latest fifth is for validation.
Nights that lie there already are not written again, neither here nor by `recs train` of the same night; `recs clean` removes old ones.
"""
from __future__ import annotations

import json

from recs.jobs import derive, train
from recs.jobs._cli import RunRecord, load, parser, run_job
from recs.models import model_class
from recs.report.progress import Steps
from recs.serve import nights
from recs.session import start
from recs.tables import Lake, lease


def main(argv: list[str] | None = None) -> int:
    """The command."""
    args = parser(__doc__, as_of=True).parse_args(argv)

    def body() -> None:
        config, steps, books = load(args.config), Steps(), {}
        record = RunRecord("build_examples", args.root, config)
        with lease(args.root):
            lake = Lake(start("recs build_examples", config.spark), args.root)
            newest = nights.newest_batch(lake) if args.max_batch is None else args.max_batch
            attempt = train.attempt_at(config, args.as_of, newest)
            derived = derive.bring(lake, config, args.as_of, newest, steps)
            for name in (n for n in config.models if model_class(n).trains):
                with steps(name) as counts:
                    books[name] = train.stage_examples(lake, config, derived, attempt, name)
                    counts.update({key: books[name][key] for key in ("rows", "bytes") if key in books[name]})
        for name, book in books.items():
            told = {key: book.get(key) for key in ("book", "rows", "bytes", "row_bytes", "content_hash")}
            print(json.dumps({"job": "build_examples", "model": name, **told}))
            record.step(name, steps.seconds[name], **told)
        record.write()

    return run_job(body)


if __name__ == "__main__":
    raise SystemExit(main())
