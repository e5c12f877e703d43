"""VPN: whether people come in, and whether they get anywhere."""

from panels import UP_DOWN, Board, steps

BOARD = board = Board("vpn", "midwatch / VPN", "Whether tunnels open, and what is reached through them.", probe="vpn",
                      variables=[("server", "Server", "label_values(midwatch_vpn_up{@}, server)")])

S = 'server=~"$server"'
UP = f"min by (probe, server) (max without (instance, pod) (midwatch_vpn_up{{@, {S}}}))"
STAGE = "midwatch_vpn_stage_duration_seconds"

board.row("Now")
board.stat("Tunnels down", f"count({UP} == 0) or vector(0)", about="Servers whose last knock did not go well at any replica of midwatch.", thresholds=steps("green", (1, "red")))
board.stat("Handshake (p90)", f'histogram_quantile(0.9, sum by (le) (rate({STAGE}_bucket{{@, {S}, stage="handshake"}}[$__rate_interval])))', "s", "A tenth of the handshakes takes longer.")
board.stat("Inside (p90)", f"histogram_quantile(0.9, sum by (le) (rate(midwatch_vpn_inside_round_trip_seconds_bucket{{@, {S}}}[$__rate_interval])))", "s", "A tenth of the round trips through tunnels takes longer.")
board.stat("Loss", f"max(max by (probe, server, stage) (midwatch_vpn_loss_ratio{{@, {S}}}))", "percentunit", "Of the tunnel that loses most.", steps("green", (0.01, "orange"), (0.05, "red")), decimals=1)
board.stat("Next certificate expires in", f"min(min by (probe, server) (midwatch_vpn_certificate_expiry_timestamp_seconds{{@, {S}}})) - time()", "s",
           "Of the servers that show one.", steps("red", (259200, "orange"), (1209600, "green")))
board.stat("Addresses", "sum(max by (probe) (midwatch_vpn_addresses{@}))")
board.row("Tunnels")
board.timeline("Up", UP, "{{probe}} {{server}}")
board.timeline("Handshake", f'max by (probe, server) (midwatch_vpn_stage_success{{@, {S}, stage="handshake"}})', "{{probe}} {{server}}", about="Whether the handshake went well, whatever came after it.", size=(12, 7))
board.timeline("Inside", f"max by (probe, server, inside) (midwatch_vpn_inside_success{{@, {S}}})", "{{probe}} {{inside}}", size=(12, 7))
board.table("Vantage and target", [
    ("up", f"max by (instance, probe, server) (midwatch_vpn_up{{@, {S}}})", "none", UP_DOWN),
    ("last knock", f"0 * max by (instance, probe, server) (midwatch_vpn_up{{@, {S}}}) + on (instance, probe) group_left () (time() - max by (instance, probe) (midwatch_probe_last_run_timestamp_seconds{{@, type=\"vpn\"}}))", "s"),
], "Every server as every replica of midwatch sees it, and how old its last knock is.", size=(12, 8),
    link=("server", "this server alone", "/d/midwatch-vpn?var-server=${__data.fields.server}&${datasource:queryparam}"))
board.table("What servers say", [
    ("answers", f"sum by (probe, server, reply) (increase(midwatch_vpn_replies_total{{@, {S}}}[$__range])) > 0", "short"),
], "What the servers answered with within the chosen time.", size=(12, 8), link=("server", "this server alone", "/d/midwatch-vpn?var-server=${__data.fields.server}&${datasource:queryparam}"))
board.row("Times")
board.series("Stages (p50, p99)", {f"p{q} {{{{server}}}} {{{{stage}}}}": f"histogram_quantile({q / 100}, sum by (server, stage, le) (rate({STAGE}_bucket{{@, {S}}}[$__rate_interval])))" for q in (50, 99)}, "s", exemplars=True)
board.series("Round trips inside (p50, p99)", {f"p{q} {{{{inside}}}}": f"histogram_quantile({q / 100}, sum by (inside, le) (rate(midwatch_vpn_inside_round_trip_seconds_bucket{{@, {S}}}[$__rate_interval])))" for q in (50, 99)}, "s", exemplars=True)
board.series("Loss", {"{{server}} {{stage}}": f"max by (probe, server, stage) (midwatch_vpn_loss_ratio{{@, {S}}})"}, "percentunit", size=(8, 8), least=0)
board.series("Packets sent and lost", {
    "sent {{server}} {{stage}}": f"sum by (server, stage) (rate(midwatch_vpn_packets_sent_total{{@, {S}}}[$__rate_interval]))",
    "lost {{server}} {{stage}}": f"sum by (server, stage) (rate(midwatch_vpn_packets_lost_total{{@, {S}}}[$__rate_interval]))"}, "pps", size=(8, 8), about="Packets that were sent to be answered, and those that were not answered.")
board.series("Retries", {"{{server}}": f"sum by (server) (rate(midwatch_vpn_handshake_retries_total{{@, {S}}}[$__rate_interval]))"}, "pps", size=(8, 8))
board.row("Failures")
board.series("By stage and reason", {"{{server}} {{stage}} {{reason}}": f"sum by (server, stage, reason) (rate(midwatch_vpn_stage_failures_total{{@, {S}}}[$__rate_interval]))"}, "ops", size=(6, 8))
board.series("Inside, by reason", {"{{inside}} {{reason}}": f"sum by (inside, reason) (rate(midwatch_vpn_inside_failures_total{{@, {S}}}[$__rate_interval]))"}, "ops", size=(6, 8))
board.series("Packets that were no answer", {"{{server}} {{why}}": f"sum by (server, why) (rate(midwatch_vpn_ignored_packets_total{{@, {S}}}[$__rate_interval]))"}, "pps", size=(6, 8))
board.series("Clock of round trips", {"{{clock}}": f"sum by (clock) (rate(midwatch_vpn_round_trip_clock_total{{@, {S}}}[$__rate_interval]))"}, "ops", size=(6, 8))
board.row("Certificates and keys")
board.series("Certificates", {"{{server}}": f"min by (probe, server) (midwatch_vpn_certificate_expiry_timestamp_seconds{{@, {S}}}) - time()"}, "s", size=(8, 8), about="Time until the certificate that a server showed expires.")
board.table("TLS", [("is", f"max by (probe, server, version) (midwatch_vpn_tls_info{{@, {S}}})", "none")], "The version of TLS that each server agreed to.", size=(8, 8), hidden=("Value",),
            link=("server", "this server alone", "/d/midwatch-vpn?var-server=${__data.fields.server}&${datasource:queryparam}"))
board.table("Keys used by several instances", [("instances", f"count by (server, key) (count by (server, key, instance) (midwatch_vpn_key_info{{@, {S}}}))", "none")],
            "Each instance needs a key of its own: from 2 on the tunnel moves back and forth.", size=(8, 8), link=("server", "this server alone", "/d/midwatch-vpn?var-server=${__data.fields.server}&${datasource:queryparam}"))
board.heatmaps("Every round trip", STAGE, ("Handshakes", f'{S}, stage="handshake"', 12), ("All stages", f'{S}, stage="total"', 12))
board.heatmaps("Every round trip inside", "midwatch_vpn_inside_round_trip_seconds", ("Inside", S, 24))
