"""A history written out with times, for a language model to read.

    events      view mug (2 d before the request)   buy lamp (3 h before)
    en          3 hours ago bought Lamp; 2 days ago viewed Red mug
    zh          3小时前购买了Lamp；2天前浏览了Red mug

Newest first, so that what does not fit into the model is the oldest.  A language is a `Template`; the parameter `written` names one of
TEMPLATES or brings its own (its fields as a mapping).  Items are written as the catalogue's text says (kind `text` of the item tables),
else by their id.

Shapes: U users.
"""
from __future__ import annotations

import re
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from recs.evidence.histories import Histories
from recs.evidence.item_tables import ItemTables

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400


class Template(BaseModel):
    """How an event is said."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event: str = "{when} {verb} {item}"
    graded: str = "{when} {verb} {item}: {value:g}"     # of events with a value, where values are ratings
    joined: str = "; "
    nothing: str = "nothing yet"
    verbs: dict[str, str] = {}          # by the name of the event type; others are said by their name
    # (from so many seconds on, phrase); {n} counts in the last number of the row
    ages: tuple[tuple[int, str, int], ...] = Field(min_length=1)
    without: tuple[str, ...] = ()       # stop words, left out of items


TEMPLATES = {
    "en": Template(
        verbs={"view": "viewed", "click": "clicked", "buy": "bought", "purchase": "bought", "cart": "put into the cart", "rate": "rated",
               "like": "liked", "watch": "watched", "listen": "listened to", "checkin": "visited", "share": "shared", "follow": "followed"},
        ages=((0, "just now", 1), (HOUR_S, "{n} hours ago", HOUR_S), (DAY_S, "yesterday", 1), (2 * DAY_S, "{n} days ago", DAY_S),
              (14 * DAY_S, "{n} weeks ago", 7 * DAY_S), (60 * DAY_S, "{n} months ago", 30 * DAY_S), (730 * DAY_S, "years ago", 1)),
        without=("a", "an", "and", "of", "the", "with"),
    ),
    "zh": Template(
        event="{when}{verb}{item}", graded="{when}{verb}{item}：{value:g}分", joined="；", nothing="还没有",
        verbs={"view": "浏览了", "click": "点击了", "buy": "购买了", "purchase": "购买了", "cart": "加入了购物车：", "rate": "评价了",
               "like": "喜欢了", "watch": "观看了", "listen": "收听了", "checkin": "到访了", "share": "分享了", "follow": "关注了"},
        ages=((0, "刚才", 1), (HOUR_S, "{n}小时前", HOUR_S), (DAY_S, "昨天", 1), (2 * DAY_S, "{n}天前", DAY_S),
              (14 * DAY_S, "{n}周前", 7 * DAY_S), (60 * DAY_S, "{n}个月前", 30 * DAY_S), (730 * DAY_S, "几年前", 1)),
        without=("的", "了"),
    ),
}


def template_of(language: str | dict[str, Any]) -> Template:
    """By name, or from its fields.  Raises ValueError for a name that is not there."""
    if isinstance(language, dict):
        return Template(**language)
    if language not in TEMPLATES:
        raise ValueError(f"written.language: no template {language!r}: there are {', '.join(TEMPLATES)}, or give the fields of one")
    return TEMPLATES[language]


def when(template: Template, age_s: float) -> str:
    """How long ago."""
    phrase, unit = next((p, u) for since, p, u in reversed(template.ages) if age_s >= since or since == template.ages[0][0])
    return phrase.format(n=int(max(age_s, 0) // unit))


def clean(template: Template, text: str) -> str:
    """A text without the template's stop words, punctuation and doubled blanks; a text of nothing else stays as it is."""
    words = [w for w in re.findall(r"[\w'’-]+", text, re.UNICODE) if w.casefold() not in template.without]
    return " ".join(words) or text


def written(
    histories: Histories, request_us: np.ndarray, tables: ItemTables, template: Template, events: int, cleaned: bool = True,
    graded: bool = False,
) -> list[str]:
    """[U] the newest `events` events of each history; items without stop words and punctuation if `cleaned`, else as the catalogue says."""
    verb = {code: template.verbs.get(name, name) for name, code in tables.manifest["event_types"].items()}
    columns = tables.columns(histories.item)
    met = np.unique(columns[columns >= 0])
    shown = {int(c): clean(template, text) if cleaned else text for c, text in zip(met, tables.said(met), strict=True)}
    out = []
    for user, (a, b) in enumerate(zip(histories.offsets[:-1], histories.offsets[1:], strict=True)):
        said = [
            (template.graded if graded and not np.isnan(histories.value[e]) else template.event).format(
                when=when(template, (request_us[user] - histories.ts[e]) / 1e6), verb=verb.get(int(histories.type_code[e]), ""),
                item=shown[int(columns[e])], value=histories.value[e])
            for e in range(b - 1, max(a, b - events) - 1, -1) if columns[e] >= 0
        ]
        out.append(template.joined.join(said) or template.nothing)
    return out
