"""The dashboard shows what the code exports, all of it and nothing else."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

from mfsynth.runs.watching.metrics import METRICS

DASHBOARD = json.loads((Path(__file__).parents[2] / "pipelines" / "grafana.json").read_text())
PANELS = DASHBOARD["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_every_metric_that_is_queried_is_exported_and_the_other_way_round():
    queried = {name for query in QUERIES for name in re.findall(r"ray_mfsynth_\w+", query)}
    assert queried == {metric.exported for metric in METRICS}


def test_every_query_is_of_the_run_that_is_chosen():
    (run,) = [v for v in DASHBOARD["templating"]["list"] if v["name"] == "run"]
    assert re.fullmatch(r"label_values\((ray_mfsynth_\w+), run\)", run["query"]["query"])[1] in {
        metric.exported for metric in METRICS
    }
    for query in QUERIES:
        metrics = re.findall(r"ray_mfsynth_\w+(\{[^}]*\})?", query)
        assert metrics == ['{run=~"$run"}'] * len(metrics)
        assert query.count("(") == query.count(")")


def test_labels_that_are_grouped_by_are_those_of_their_metric():
    labels = {metric.exported: metric.label for metric in METRICS}
    found = [
        match
        for query in QUERIES
        for match in re.findall(r"by \((\w+)\) \((?:\w+\()?(ray_mfsynth_\w+)", query)
    ]
    # Ray itself adds the address of the node.
    assert all(label in (labels[name], "NodeAddress") for label, name in found)
    assert {label for label, _ in found} == {*filter(None, labels.values()), "NodeAddress"} - {
        "unit"
    }


def test_panels_lie_side_by_side():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        apart = any(
            one[at] + one[size] <= other[at] or other[at] + other[size] <= one[at]
            for at, size in (("x", "w"), ("y", "h"))
        )
        assert apart
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in PANELS)
