"""Reports as people open them: one HTML file per night and per evaluation, which needs no network and no script.

    night.py            a night: opens with what became of the lists, ends with ten users.  Read without a JVM, as `recs show` reads
    evaluation.py       a comparison of models, beside its report.md
    facts, lists, drift, people     what the tables say, a module per part of the night's page; aggregates come from DuckDB
    charts, flow, timeline          pictures as SVG in the page's own colours, so that they follow light, dark and paper
    html.py, *.j2, style.css        the frame and the look

The page of a night names users and what they did: it lies beside the tables, and `recs erase` removes it with them.
"""
