"""What dashboards are made of: variables, annotations, panels and their places.

In queries `{@}` stands for the job, the instance and the probe that are chosen above, `{#}` for job and instance alone; further matchers
may follow. A panel that is not described has the description of its first metric in docs/METRICS.md.
"""

import json
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24

UP_DOWN = [{"type": "value", "options": {
    "0": {"text": "down", "color": "red", "index": 0}, "1": {"text": "up", "color": "green", "index": 1}}}]
YES_NO = [{"type": "value", "options": {"0": {"text": "no", "index": 0}, "1": {"text": "yes", "index": 1}}}]


def catalogue():
    """The meaning of every metric, from the page that is generated from the code."""
    rows = (line.split(" | ") for line in (ROOT / "docs/METRICS.md").read_text().splitlines() if line.startswith("| `"))
    return {row[0].strip("| `"): row[3].rstrip(" |") for row in rows}


MEANING = catalogue()


def meaning(query):
    for name in re.findall(r"[a-z_]+[a-z]", query):
        for known in (name, re.sub(r"_(bucket|sum|count)$", "", name)):
            if known in MEANING:
                return MEANING[known]
    raise ValueError(f"no metric in {query}")


def steps(*bounds):
    """Colours from a value on: steps("green", (5, "red"))."""
    first, *others = bounds
    return {"mode": "absolute", "steps": [{"color": first, "value": None}] + [{"color": c, "value": v} for v, c in others]}


class Board:
    """A dashboard. Panels are placed from left to right, a new line when one is full."""

    def __init__(self, name, title, about, probe=None, variables=(), since="6h"):
        self.name, self.title, self.about, self.since = name, title, about, since
        self.panels, self.x, self.y, self.line = [], 0, 0, 0
        self.collapsed = None
        self.variables = [self.data_source(), self.query("job", "Job", "label_values(midwatch_build_info, job)")]
        self.variables.append(self.query("instance", "Instance", 'label_values(midwatch_build_info{job=~"$job"}, instance)'))
        self.has_probe = probe is not None
        if self.has_probe:
            kinds = f', type=~"{probe}"' if probe else ""
            text = f"label_values(midwatch_probe_info{{{self.select('{#}')[1:-1]}{kinds}}}, probe)"
            self.variables.append(self.query("probe", "Probe", text))
        for name, label, text in variables:
            self.variables.append(self.query(name, label, self.select(text)))
        self.annotations = self.common_annotations(outages=bool(probe))

    # Queries

    def select(self, query):
        base = 'job=~"$job", instance=~"$instance"'
        probe = base + ', probe=~"$probe"' if getattr(self, "has_probe", False) else base
        return query.replace("{@", "{" + probe).replace("{#", "{" + base)

    def target(self, query, legend, at, **more):
        ref = chr(ord("A") + at)
        return {"datasource": SOURCE, "editorMode": "code", "expr": self.select(query), "legendFormat": legend,
                "range": True, "refId": ref, **more}

    # Variables

    def data_source(self):
        return {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {},
                "hide": 0, "includeAll": False, "multi": False, "options": [], "refresh": 1, "regex": "", "skipUrlSync": False}

    def query(self, name, label, text):
        return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "definition": text,
                "query": {"query": text, "refId": "variable"}, "allValue": ".+", "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
                "hide": 0, "includeAll": True, "multi": True, "options": [], "refresh": 2, "regex": "", "skipUrlSync": False, "sort": 1}

    # Annotations

    def annotation(self, name, query, colour, title, text="", enable=True):
        return {"name": name, "datasource": SOURCE, "enable": enable, "hide": False, "iconColor": colour, "expr": self.select(query),
                "step": "30s", "titleFormat": title, "textFormat": text, "useValueForTime": False}

    def common_annotations(self, outages):
        return [
            # Where everything is shown, they would be all that is seen.
            self.annotation("Outages", "min by (type, probe, target) (max without (instance, pod) (midwatch_probe_success{@})) == 0", "red", "{{type}} {{probe}} is down", "{{target}}", enable=outages),
            self.annotation("Backups", "max by (probe, node) (midwatch_backup_running{#}) == 1", "purple", "backup {{probe}}", "{{node}}"),
            self.annotation("Reloads", "changes(midwatch_config_last_reload_success_timestamp_seconds{#}[2m]) > 0", "blue", "configuration read anew", "{{instance}}"),
            # By its age, because after a restart the same midwatch may be another instance.
            self.annotation("Restarts", "time() - process_start_time_seconds{#} < 60", "orange", "midwatch restarted", "{{instance}}"),
        ]

    # Places

    def row(self, title, collapsed=False):
        self.y, self.x, self.line = self.y + self.line, 0, 0
        row = {"type": "row", "title": title, "collapsed": collapsed, "panels": [], "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": self.y}}
        self.panels.append(row)
        self.collapsed = row["panels"] if collapsed else None
        self.y += 1

    def add(self, kind, title, queries, unit, about, size, options=None, defaults=None, custom=None, **more):
        width, height = size
        if self.x + width > WIDTH:
            self.y, self.x, self.line = self.y + self.line, 0, 0
        place = {"h": height, "w": width, "x": self.x, "y": self.y}
        self.x, self.line = self.x + width, max(self.line, height)
        field = {"unit": unit, **(defaults or {})}
        if custom:
            field["custom"] = custom
        targets = [self.target(query, legend, at, **extra) for at, (legend, query, extra) in enumerate(queries)]
        about = about or meaning(queries[0][1])
        panel = {"type": kind, "title": title, "description": about, "datasource": SOURCE, "gridPos": place,
                 "fieldConfig": {"defaults": field, "overrides": more.pop("overrides", [])}, "options": options or {}, "targets": targets, **more}
        (self.panels if self.collapsed is None else self.collapsed).append(panel)

    # Panels

    def stat(self, title, query, unit="none", about=None, thresholds=None, mappings=None, size=(4, 4), decimals=None):
        defaults = {"color": {"mode": "thresholds"}, "thresholds": thresholds or steps("blue"), "mappings": mappings or []}
        if decimals is not None:
            defaults["decimals"] = decimals
        options = {"colorMode": "value", "graphMode": "area", "justifyMode": "auto", "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "textMode": "auto"}
        self.add("stat", title, [("", query, {})], unit, about, size, options, defaults)

    def series(self, title, queries, unit, about=None, size=(12, 8), stack=False, thresholds=None, exemplars=False, decimals=None, least=None):
        """Lines over time; `queries` maps legends to queries."""
        extra = {"exemplar": True} if exemplars else {}
        custom = {"drawStyle": "line", "fillOpacity": 20 if stack else 5, "lineWidth": 1, "showPoints": "never",
                  # In ms: probes that run seldom have no rate between two runs.
                  "spanNulls": 300_000,
                  "stacking": {"mode": "normal" if stack else "none", "group": "A"}}
        defaults = {"color": {"mode": "palette-classic"}}
        if thresholds:
            custom["thresholdsStyle"] = {"mode": "line"}
            defaults["thresholds"] = thresholds
        if least is not None:
            defaults["min"] = least
        if decimals is not None:
            defaults["decimals"] = decimals
        options = {"legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom", "showLegend": True},
                   "tooltip": {"mode": "multi", "sort": "desc"}}
        self.add("timeseries", title, [(legend, query, extra) for legend, query in queries.items()], unit, about, size, options, defaults, custom)

    def timeline(self, title, query, legend, mappings=UP_DOWN, about=None, size=(24, 7)):
        options = {"alignValue": "left", "mergeValues": True, "rowHeight": 0.85, "showValue": "never",
                   "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}, "tooltip": {"mode": "single", "sort": "none"}}
        defaults = {"color": {"mode": "thresholds"}, "mappings": mappings, "thresholds": steps("red", (0.5, "green"))}
        self.add("state-timeline", title, [(legend, query, {})], "none", about, size, options, defaults, {"fillOpacity": 80, "lineWidth": 0})

    def heatmap(self, title, metric, matchers="", native=False, about=None, size=(12, 9), unit="s"):
        """How many observations fell into which bucket. A data source has classic buckets or native ones."""
        selector = "{@" + (", " + matchers if matchers else "") + "}"
        if native:
            query = f"sum(increase({metric}{selector}[$__rate_interval]))"
        else:
            query = f"sum by (le) (increase({metric}_bucket{selector}[$__rate_interval]))"
        options = {"calculate": False, "cellGap": 0, "color": {"mode": "scheme", "scheme": "Turbo", "exponent": 0.5, "steps": 64, "reverse": False},
                   "exemplars": {"color": "rgba(255,0,255,0.7)"}, "filterValues": {"le": 1e-9}, "legend": {"show": True},
                   "rowsFrame": {"layout": "auto"}, "showValue": "never", "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": True},
                   "yAxis": {"axisPlacement": "left", "unit": unit, "reverse": False}}
        legend = "" if native else "{{le}}"
        about = about or meaning(metric) + (" From native buckets." if native else "")
        self.add("heatmap", title, [(legend, query, {"format": "heatmap", "exemplar": True})], unit, about, size, options,
                 custom={"scaleDistribution": {"type": "linear"}})

    def heatmaps(self, title, metric, *panels):
        """Classic heatmaps in a row, and native ones of the same in a collapsed row below; a panel is its title, its matchers and a width."""
        for native in (False, True):
            self.row(title + (" (native histograms)" if native else ""), collapsed=native)
            for name, matchers, width in panels:
                self.heatmap(name, metric, matchers, native, size=(width, 9))

    def table(self, title, columns, about, size=(24, 10), link=None, hidden=(), sort=None):
        """A row for each set of labels; `columns` are names, queries and units. The first column's labels are columns too."""
        queries = [("", query, {"format": "table", "instant": True, "range": False}) for _, query, *_ in columns]
        overrides = []
        for at, (name, _, unit, *mappings) in enumerate(columns):
            properties = [{"id": "displayName", "value": name}, {"id": "unit", "value": unit}]
            if mappings:
                properties += [{"id": "mappings", "value": mappings[0]}, {"id": "custom.cellOptions", "value": {"type": "color-text"}}]
            value = f"Value #{chr(ord('A') + at)}" if len(columns) > 1 else "Value"
            overrides.append({"matcher": {"id": "byName", "options": value}, "properties": properties})
        if link:
            field, text, url = link
            overrides.append({"matcher": {"id": "byName", "options": field},
                              "properties": [{"id": "links", "value": [{"title": text, "url": url}]}]})
        exclude = {name: True for name in ("Time", *hidden)}
        transformations = [{"id": "merge", "options": {}}, {"id": "organize", "options": {"excludeByName": exclude, "indexByName": {}, "renameByName": {}}}]
        options = {"cellHeight": "sm", "showHeader": True, "footer": {"show": False, "reducer": ["sum"], "fields": ""}}
        if sort:
            options["sortBy"] = [{"displayName": sort, "desc": True}]
        self.add("table", title, queries, "none", about, size, options, {"custom": {"align": "auto", "filterable": True}},
                 transformations=transformations, overrides=overrides)

    def alerts(self, title, about, size=(12, 8)):
        # Of all data sources: Grafana puts no variable into this option.
        options = {"alertInstanceLabelFilter": "", "alertName": "", "dashboardAlerts": False, "datasource": "", "groupBy": [],
                   "groupMode": "default", "maxItems": 20, "sortOrder": 3, "stateFilter": {"error": True, "firing": True, "noData": False, "normal": False, "pending": True}, "viewMode": "list"}
        self.add("alertlist", title, [], "none", about, size, options)

    # The whole

    def json(self):
        for at, panel in enumerate(self.every_panel(), 1):
            panel["id"] = at
        link = {"asDropdown": True, "icon": "external link", "includeVars": True, "keepTime": True, "tags": ["midwatch"], "targetBlank": False,
                "title": "midwatch", "tooltip": "", "type": "dashboards", "url": ""}
        return {"annotations": {"list": self.annotations}, "description": self.about, "editable": False, "fiscalYearStartMonth": 0, "graphTooltip": 1,
                "links": [link], "panels": self.panels, "refresh": "30s", "schemaVersion": 39, "tags": ["midwatch"], "templating": {"list": self.variables},
                "time": {"from": f"now-{self.since}", "to": "now"}, "timepicker": {}, "timezone": "", "title": self.title, "uid": f"midwatch-{self.name}", "version": 1, "weekStart": ""}

    def every_panel(self):
        for panel in self.panels:
            yield panel
            yield from panel.get("panels", [])

    def write(self):
        text = json.dumps(self.json(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        (ROOT / "dashboards" / f"{self.name}.json").write_text(text)
