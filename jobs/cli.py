"""The `recs` command: the same jobs as under spark-submit, for a person at a terminal.

Each stage keeps its own flags: `recs sessionize --help` is the help of jobs/sessionize.py.
"""
from __future__ import annotations

import importlib
import sys
from pathlib import Path

import typer
from rich.console import Console

from recs.clock import parse_date
from recs.report import outcomes as became
from recs.report import show as shown
from recs.report import told
from recs.tables import TableError

app = typer.Typer(
    help="Nightly, time-aware recommendations on Spark: event log in, ranked lists per user in Delta tables.",
    no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False,
)

# command, module, panel, what it does
STAGES = (
    ("night", "night", "The night", "Run the whole night: ingest to published lists (a generated log when no input is named)."),
    ("release", "release", "The night", "Publish a held night after all; the reason is recorded."),
    ("hold", "hold", "The night", "Take a published night back; readers see the night before."),
    ("block", "block", "The night", "Keep an item out of everybody's lists, or of one user's."),
    ("withdraw", "withdraw", "The night", "Withdraw an item for good (its tombstone)."),
    ("clean", "clean", "The night", "Remove staged lists, item tables and examples that no kept night needs."),
    ("compact", "compact", "The night", "Put small files of the tables together, forget their old versions."),
    ("doctor", "doctor", "Looking", "Is this machine fit for a night?  What is missing, with the remedy."),
    ("score-outcomes", "score_outcomes", "The night", "The morning after: what became of the lists.  Exit code 6 when it fell."),
    ("fresh", "fresh", "The night", "Is there a list for today?  Exit code 5 when not."),
    ("evaluate", "evaluate", "Models", "Ask past nights again: compare models by what followed."),
    ("promote", "promote", "Models", "Make a model champion if it earned it, by hand, or go back to the one before."),
    ("generate", "generate", "Stages", "Make an event log with known truth."),
    ("ingest", "ingest", "Stages", "Read raw events, items and users into the tables."),
    ("sessionize", "sessionize", "Stages", "Cut events into sessions."),
    ("item-hours", "item_hours", "Stages", "Count items by hour."),
    ("sequences", "sequences", "Stages", "Build one history per user."),
    ("item-tables", "item_tables", "Stages", "Build item statistics and neighbours as of a cut."),
    ("text-vectors", "text_vectors", "Stages", "Have a language model read the catalogue's texts."),
    ("build-examples", "build_examples", "Stages", "Stage the examples that models learn from."),
    ("train", "train", "Stages", "Fit models on earlier nights."),
    ("recommend", "recommend", "Stages", "Score users and stage their lists."),
    ("publish", "publish", "Stages", "Audit staged lists and publish them, or hold the night."),
)


def _forward(module: str):
    def command(context: typer.Context) -> None:
        job = importlib.import_module(f"recs.jobs.{module}")
        sys.argv[0] = f"recs {context.info_name}"
        raise typer.Exit(job.main(context.args))

    return command


for _name, _module, _panel, _help in STAGES:
    app.command(
        _name, help=_help, rich_help_panel=_panel, add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_forward(_module))

ROOT = typer.Option("warehouse", help="Folder of the tables.")
LIST = typer.Option("main", "--list", help="Which list.")


@app.command(rich_help_panel="Looking")
def show(
    user_id: str = typer.Argument(help="The user."),
    root: str = ROOT, list_name: str = LIST,
    run_date: str = typer.Option(None, help="YYYY-MM-DD; default: the current lists."),
    limit: int = typer.Option(20, help="Rows to show."),
    say: str = typer.Option(None, help="Show what the user reads: en, zh, or a YAML file of phrases."),
    zone: str = typer.Option("UTC", help="Time zone of a user whose row names none, for --say."),
    polish: str = typer.Option(None, help="Folder of a causal language model that may reword the list's sentence, for --say."),
) -> None:
    """One user's list, with titles and reasons."""
    if (polish or zone != "UTC") and not say:
        raise typer.BadParameter("--zone and --polish go with --say")
    day = parse_date(run_date) if run_date else None
    if say:
        Console().print(_or_exit(lambda: told.user_words(root, user_id, list_name, day, limit, say, zone, polish)))
    else:
        Console().print(_or_exit(lambda: shown.user_grid(root, user_id, list_name, day, limit)))


@app.command(rich_help_panel="Looking")
def nights(root: str = ROOT, limit: int = typer.Option(20, help="Rows to show.")) -> None:
    """What each night knew, what the audit said, what was decided."""
    Console().print(_or_exit(lambda: shown.nights_grid(root, limit)))


@app.command(rich_help_panel="Looking")
def outcomes(
    root: str = ROOT, list_name: str = LIST,
    limit: int = typer.Option(28, help="Days to show."),
    plot: Path = typer.Option(None, help="Draw the trend into this file, as .png and .svg."),
) -> None:
    """What became of the lists, day by day, beside yesterday's popularity (of `recs score-outcomes`)."""
    days = _or_exit(lambda: became.by_day(root, list_name, limit))
    Console().print(became.grid(days))
    if plot:
        typer.echo(f"trend: {became.plot(days, plot.with_suffix(''))}")


def _or_exit(read):
    """The answer of `read`, or its refusal as one line and exit code 2."""
    try:
        return read()
    except (ValueError, TableError) as e:
        typer.echo(f"recs: {e}", err=True)
        raise typer.Exit(2) from e


if __name__ == "__main__":
    app()
