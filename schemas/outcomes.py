"""What goes out: models, lists, nights, figures."""
from __future__ import annotations

from .table import Column, Table

MODELS = Table(
    name="models",
    doc="One trained model",
    columns=(
        Column("model_version", "string", "recipe, date and hash: <name>-<trained_through>-<hash>"),
        Column("name", "string", "name of the recipe (recs.models.NAMES)"),
        Column("recipe", "string", "<name>@<hash of the configuration the model is made from>: equal for refits of one recipe"),
        Column("trained_through", "timestamp", "nothing at or after this instant is in the model, UTC"),
        Column("params", "string", "fitted parameters, JSON"),
        Column("metrics", "string", "figures of the fit (name -> number), JSON"),
        Column("data_versions", "string", "table versions read, JSON"),
        Column("code_version", "string", "version of this package, and git commit where known"),
        Column("config_hash", "string", "hash of the configuration"),
        Column("content_hash", "string", "SHA-256 over the model’s files"),
        Column("path", "string", "folder of the model, relative to the root"),
        Column("status", "string", "champion, candidate or retired"),
        Column("created_at", "timestamp", "when it was trained, UTC"),
    ),
    key=("model_version",),
    checks=(("status_known", "status IN ('champion', 'candidate', 'retired')"),),
)

RECOMMENDATIONS = Table(
    name="recommendations",
    doc="One item in one published list",
    columns=(
        Column("run_date", "date", "local date, in the configured zone, on which the list is first served"),
        Column("list_name", "string", "which list (a product of its own), e.g. main"),
        Column("audience", "string", "user, or segment: a list stored once for all dormant users of a segment"),
        Column("user_id", "string", "the user; for audience = segment the segment’s name"),
        Column("rank", "int", "1, 2, 3, … without gaps"),
        Column("item_id", "string", "the recommended item"),
        Column("score", "double", "higher is better; comparable inside one list among rows of one source only"),
        Column("source", "string", "model, segment, fallback or rule"),
        Column("reason_code", "string", "repeat, neighbour, popular, similar_users, taste; model_error: popular, because the model failed on this user"),
        Column("evidence_item_id", "string", "item of the past event that spoke most for this one; NULL when none did", nullable=True),
        Column("evidence_ts", "timestamp", "instant of that event, UTC; NULL when none", nullable=True),
        Column("model_version", "string", "the model that made the list"),
        Column("scored_as_of", "timestamp", "nothing at or after this instant was known to the list, UTC"),
        Column("serve_at", "timestamp", "the instant gaps, clocks and decays were measured to, UTC"),
    ),
    key=("run_date", "list_name", "audience", "user_id", "rank"),
    partitions=("run_date", "list_name"),
    checks=(
        ("rank_positive", "rank >= 1"),
        # NaN >= 0 is true for Spark: finiteness has to be said
        ("score_finite", "NOT isnan(score) AND abs(score) < 1e300"),
        ("audience_known", "audience IN ('user', 'segment')"),
        ("source_known", "source IN ('model', 'segment', 'fallback', 'rule')"),
    ),
)

NIGHTS = Table(
    name="nights",
    doc="One attempt at one night: what it knew, what the audit said, what was decided",
    columns=(
        Column("run_date", "date", "local date on which the list is first served"),
        Column("list_name", "string", "which list"),
        Column("attempt", "int", "1, 2, 3, …; a re-run keeps its number, --refresh takes a new one"),
        Column("as_of", "timestamp", "knowledge cut, UTC"),
        Column("serve_at", "timestamp", "when the list is used, UTC"),
        Column("max_batch", "bigint", "highest batch the night knows"),
        Column("item_tables", "string", "version of the item tables"),
        Column("model_version", "string", "the model"),
        Column("decision", "string", "started (not decided yet), published, held, released (published by a person’s decision) or withdrawn (held by a person after it was published)"),
        Column("decided_by", "string", "night, audit, or the person’s login"),
        Column("reason", "string", "why, in words"),
        Column("audit", "string", "results of the audit, JSON: check -> {ok, value, limit}"),
        Column("n_lists", "bigint", "lists staged"),
        Column("n_rows", "bigint", "rows staged"),
        Column("content_hash", "string", "order-free hash of the staged rows, hex"),
        Column("delta_version", "bigint", "version of recommendations that holds the night; NULL when held", nullable=True),
        Column("config_hash", "string", "hash of the configuration"),
        Column("code_version", "string", "version of this package"),
        Column("decided_at", "timestamp", "when the decision fell, UTC"),
    ),
    key=("run_date", "list_name", "attempt", "decided_at"),
    checks=(("decision_known", "decision IN ('started', 'published', 'held', 'released', 'withdrawn')"),),
)

PROMOTIONS = Table(
    name="promotions",
    doc="One decision about who is champion: a promotion, a refusal, a way back",
    columns=(
        Column("decided_at", "timestamp", "when the decision fell, UTC"),
        Column("model_version", "string", "the model the decision is about"),
        Column("decision", "string", "promoted, refused (the champion stays) or rolled_back (an earlier champion reigns again)"),
        Column("kind", "string", "first (nobody reigned), refit (of the reigning recipe), recipe (another one), by_hand or rollback"),
        Column("before", "string", "model version of the champion before the decision; '' = none"),
        Column("judged", "string", "what was held against each other: models (on nights after both were trained), recipes (some fitted again at a past cut), fit (figures of the fit) or nothing"),
        Column("nights", "int", "past nights it was judged on"),
        Column("evidence", "string", "what the decision rests on, JSON: differences with their 95 % intervals, limits, smoke inference"),
        Column("decided_by", "string", "night, promote, or the person’s login"),
        Column("reason", "string", "why, in words"),
    ),
    key=("decided_at", "model_version"),
    checks=(
        ("decision_known", "decision IN ('promoted', 'refused', 'rolled_back')"),
        ("kind_known", "kind IN ('first', 'refit', 'recipe', 'by_hand', 'rollback')"),
        ("judged_known", "judged IN ('models', 'recipes', 'fit', 'nothing')"),
    ),
)

METRICS = Table(
    name="metrics",
    doc="One number about one model, night or outcome",
    columns=(
        Column("run", "string", "what was measured: an evaluation, a contest, a promotion, a day’s outcome (outcome-<list>-<date>)"),
        Column("model", "string", "the model (or recipe) measured; '' = none; of a day’s outcome: published (the lists that were served) or popularity_yesterday"),
        Column("versus", "string", "the model it is compared with on the same lists: value is the difference; '' = none"),
        Column("name", "string", "name of the figure, e.g. ndcg@10"),
        Column("slice", "string", "part of the lists, e.g. history=5-19, night=2024-03-30; of a contest also seed=2, and seeds=3 (mean, least and greatest); '' = all"),
        Column("value", "double", "the figure"),
        Column("low", "double", "lower end of its 95 % interval; NULL when none", nullable=True),
        Column("high", "double", "upper end", nullable=True),
        Column("p", "double", "of a difference: two-sided p that there is none; NULL otherwise", nullable=True),
        Column("n", "bigint", "units behind it"),
        Column("measured_at", "timestamp", "when, UTC"),
    ),
    key=("run", "model", "versus", "name", "slice"),
)

OUTCOMES = Table(
    name="outcomes",
    doc="One day on which a list was served, held against what its users then did; its figures are in metrics under run",
    columns=(
        Column("served_on", "date", "local date on which the lists were used"),
        Column("list_name", "string", "which list"),
        Column("run_date", "date", "night of these lists; earlier than served_on: that day’s night was held, withdrawn or missed, and older lists were served again"),
        Column("attempt", "int", "the attempt at that night which was served"),
        Column("model_version", "string", "the model of that attempt"),
        Column("used_from", "timestamp", "since when the lists stood: serve_at, or the decision where it fell later on the day, UTC"),
        Column("used_until", "timestamp", "end of the night’s horizon (fit.horizon after its cut), UTC; events from here on do not count"),
        Column("counted_until", "timestamp", "how far the log reached when this was counted, UTC; at most used_until"),
        Column("is_whole", "boolean", "did the log reach used_until?  Figures of days that are not whole will change"),
        Column("n_lists", "bigint", "users’ own lists that were served"),
        Column("n_active", "bigint", "of these: users who did something the lists should bring about (target event types)"),
        Column("n_judged", "bigint", "of these: users who did something a list could have held; the headline is their mean"),
        Column("n_shared", "bigint", "further users who saw their segment’s list and did something it could have held"),
        Column("headline", "string", "name in metrics of the figure that people look at first, e.g. ndcg@10"),
        Column("run", "string", "run of the figures in metrics"),
        Column("signature", "string", "hash of what was counted: lists, events, rules; while it stays the same the day is not counted again"),
        Column("measured_at", "timestamp", "when, UTC"),
    ),
    key=("served_on", "list_name"),
    checks=(("window_not_empty", "used_until > used_from"), ("counts_nested", "n_judged <= n_active AND n_active <= n_lists")),
)
