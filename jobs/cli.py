"""The `recs` command: the same jobs as under spark-submit, for a person at a terminal.

Each stage keeps its own flags: `recs sessionize --help` is the help of jobs/sessionize.py.
"""
from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import typer
from rich.console import Console

from recs.clock import parse_date
from recs.report import model_pictures, told, views
from recs.report import outcomes as became
from recs.report import show as shown
from recs.tables import TableError

app = typer.Typer(
    help="Nightly, time-aware recommendations on Spark: event log in, ranked lists per user in Delta tables.",
    no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False,     # jobs/completion.py
)

# command, module, panel, what it does
STAGES = (
    ("night", "night", "The night and its lists", "Run the whole night, from raw files to published lists."),
    ("fresh", "fresh", "The night and its lists", "Is there a list for today?  Exit code 5 when not."),
    ("score-outcomes", "score_outcomes", "The night and its lists", "What became of the lists.  Exit code 6 when it fell."),
    ("report", "report", "The night and its lists", "Write a night's report, an HTML page, again."),
    ("release", "release", "Decisions", "Publish a held night after all."),
    ("hold", "hold", "Decisions", "Take a published night back."),
    ("block", "block", "Decisions", "Keep an item out of everybody's lists, or of one user's."),
    ("withdraw", "withdraw", "Decisions", "Withdraw an item for good."),
    ("erase", "erase", "Decisions", "Erase a user from all tables."),
    ("evaluate", "evaluate", "Models", "Ask past nights again: compare models by what followed."),
    ("compare", "compare", "Models", "Fit models in the same minutes and table them."),
    ("promote", "promote", "Models", "Who is champion and why; judge the candidates; go back."),
    ("ingest", "ingest", "Stages of the night, in order", "Read raw events, items and users into the tables."),
    ("text-vectors", "text_vectors", "Stages of the night, in order", "Have a language model read the catalogue's texts."),
    ("sessionize", "sessionize", "Stages of the night, in order", "Cut events into sessions."),
    ("item-hours", "item_hours", "Stages of the night, in order", "Count items by hour."),
    ("sequences", "sequences", "Stages of the night, in order", "Build one history per user."),
    ("build-examples", "build_examples", "Stages of the night, in order", "Stage the examples that models learn from."),
    ("train", "train", "Stages of the night, in order", "Fit models on earlier nights."),
    ("item-tables", "item_tables", "Stages of the night, in order", "Build item statistics and neighbours as of a cut."),
    ("recommend", "recommend", "Stages of the night, in order", "Score users and stage their lists."),
    ("publish", "publish", "Stages of the night, in order", "Audit staged lists and publish them, or hold the night."),
    ("clean", "clean", "Housekeeping", "Remove old files that no kept night needs."),
    ("compact", "compact", "Housekeeping", "Merge small files of the tables, forget old versions."),
    ("generate", "generate", "Housekeeping", "Make an event log with known truth."),
    ("doctor", "doctor", "Housekeeping", "Is this machine fit for a night?"),
    ("completion", "completion", "Housekeeping", "Print what bash or zsh needs to complete recs."),
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


@app.command(rich_help_panel="The night and its lists")
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


@app.command(rich_help_panel="The night and its lists")
def nights(root: str = ROOT, limit: int = typer.Option(20, help="Rows to show.")) -> None:
    """What each night knew, what the audit said, what was decided."""
    Console().print(_or_exit(lambda: shown.nights_grid(root, limit)))


@app.command(rich_help_panel="The night and its lists")
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


@app.command(rich_help_panel="Models")
def picture(
    what: str = typer.Argument(help="attention, decay or items."),
    root: str = ROOT,
    user: str = typer.Option("", help="Whose timeline, for attention."),
    model: str = typer.Option("", help="A version of `models`; default: the champion, else the newest."),
    out: Path = typer.Option(None, help="The PNG to write; default: WHAT.png."),
) -> None:
    """Draw what a trained model has learned."""

    path = out or Path(f"{what}.png")
    _or_exit(lambda: model_pictures.picture(views.connect(root), root, what, user, model)).savefig(path, dpi=110)
    typer.echo(f"picture: {path}")


def click_commands() -> Iterator[tuple[str, list[str]]]:
    """The commands that are not jobs, each with its options."""
    jobs = {name for name, *_ in STAGES}
    for name, command in typer.main.get_command(app).commands.items():
        if name not in jobs:
            yield name, [flag for option in command.params for flag in option.opts if flag.startswith("--")] + ["--help"]


def _or_exit(read):
    """The answer of `read`, or its refusal as one line and exit code 2."""
    try:
        return read()
    except (ValueError, TableError) as e:
        typer.echo(f"recs: {e}", err=True)
        raise typer.Exit(2) from e


if __name__ == "__main__":
    app()
