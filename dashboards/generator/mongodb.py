"""MongoDB: how long connections take, by member and phase, and what runs beside."""

from panels import Board, steps

BOARD = board = Board("mongodb", "midwatch / MongoDB", "How long connections to each member take, phase by phase, and whether a backup runs beside.",
                      probe="mongodb", variables=[("member", "Member", "label_values(midwatch_mongodb_member_state{@}, member)")])

M = 'member=~"$member"'
TOTAL = 'member=~"$member", phase="total"'
CONNECT = "midwatch_mongodb_connect_duration_seconds"

board.row("Now")
board.stat("Primaries", "max by (probe) (midwatch_mongodb_primaries{@})", thresholds=steps("red", (1, "green"), (2, "red")))
board.stat("Members that answer", f'count(max by (probe, member) (midwatch_mongodb_member_state{{@, {M}, state!="unreachable"}}) == 1)', about="Members that said what they are in the last run.")
board.stat("Connection (p90)", f"histogram_quantile(0.9, sum by (le) (rate({CONNECT}_bucket{{@, {TOTAL}}}[$__rate_interval])))", "s",
           "A tenth of the connections takes longer, all phases together.")
board.stat("Elections", "sum(max by (probe) (increase(midwatch_mongodb_primary_changes_total{@}[$__range])))", decimals=0, thresholds=steps("green", (1, "orange")))
board.stat("Restarts", f"sum(max by (probe, member) (increase(midwatch_mongodb_restarts_total{{@, {M}}}[$__range])))", decimals=0, thresholds=steps("green", (1, "orange")))
board.stat("Backups running", "sum(max by (probe) (midwatch_backup_runs_in_progress{#})) or vector(0)", about="Runs of backups that go on, on whatever node.")
board.row("Does the latency of the night coincide with the backup?")
board.heatmap("Connection latency, and backups as annotations", CONNECT, TOTAL, size=(24, 10),
              about="Every connection to the chosen members. Backups that go on are shown as annotations: choose the member that a backup runs on, and compare.")
board.series("hello by member (p90)", {"{{member}}": f'histogram_quantile(0.9, sum by (member, le) (rate({CONNECT}_bucket{{@, {M}, phase="hello"}}[$__rate_interval])))'},
             "s", "The phase hello is the first that needs the server's processor: a member that starves is slow here, while tcp is as fast as ever.", exemplars=True)
board.series("Backups by node", {"{{probe}} {{node}}": "max by (probe, node) (midwatch_backup_running{#})"}, "none", decimals=0, least=0)
board.row("Phases")
board.series("Mean duration by phase", {"{{phase}}": (
    f'sum by (phase) (rate({CONNECT}_sum{{@, {M}, phase!="total"}}[$__rate_interval])) / sum by (phase) (rate({CONNECT}_count{{@, {M}, phase!="total"}}[$__rate_interval]))')},
    "s", "What a connection consists of, on average.", stack=True)
board.series("Total by member (p50, p99)", {
    f"p{q} {{{{member}}}}": f"histogram_quantile({q / 100}, sum by (member, le) (rate({CONNECT}_bucket{{@, {TOTAL}}}[$__rate_interval])))" for q in (50, 99)}, "s", exemplars=True)
board.series("Failures by member, phase and reason", {"{{member}} {{phase}} {{reason}}":
             f"sum by (member, phase, reason) (rate(midwatch_mongodb_connect_failures_total{{@, {M}}}[$__rate_interval]))"}, "ops", size=(12, 8))
board.series("Clock of TCP handshakes", {"{{clock}}": f"sum by (clock) (rate(midwatch_mongodb_connect_tcp_clock_total{{@, {M}}}[$__rate_interval]))"}, "ops", size=(12, 8))
board.row("Replica set")
board.timeline("Primary", f'max by (probe, member) (midwatch_mongodb_member_state{{@, {M}, state="primary"}})', "{{member}}",
               [{"type": "value", "options": {"0": {"text": "not primary", "color": "transparent", "index": 0}, "1": {"text": "primary", "color": "green", "index": 1}}}],
               about="Which member said that it is the primary.")
board.table("Members", [("is", f"max by (probe, member, state) (midwatch_mongodb_member_state{{@, {M}}}) == 1", "none")], "What each member says it is.", size=(12, 8), hidden=("Value",),
            link=("member", "this member alone", "/d/midwatch-mongodb?var-member=${__data.fields.member}&${datasource:queryparam}"))
board.series("Election term", {"{{probe}}": "max by (probe) (midwatch_mongodb_election_term{@})"}, "none", size=(6, 8), decimals=0)
board.series("Certificates", {"{{member}}": f"min by (member) (midwatch_mongodb_certificate_expiry_timestamp_seconds{{@, {M}}}) - time()"}, "s", size=(6, 8),
             about="Time until the certificate that a member showed expires; empty without TLS.")
board.heatmaps("Heatmaps by phase", CONNECT, *[(phase, f'{M}, phase="{phase}"', 8) for phase in ("tcp", "hello", "auth")])
