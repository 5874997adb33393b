"""Whether it works, and what does not."""

from __future__ import annotations

from grafana import MODEL, PROVIDER, TEAM, Dashboard, Panel, Query

OPERATIONS = Dashboard(
    "gateway-operations",
    "Image gateway / Operations",
    "Whether it works, and what does not.",
    [
        (
            "Now",
            [
                Panel(
                    "Alerts",
                    [
                        Query(
                            'count(ALERTS{alertname=~"Gateway.*", alertstate="firing"})',
                            instant=True,
                        )
                    ],
                    "stat",
                    width=4,
                    height=4,
                    text="That fire; none shows as no data.",
                    steps=((None, "red"),),
                ),
                Panel(
                    "Ledger store",
                    [Query("min(gateway_store_up)", instant=True)],
                    "stat",
                    width=4,
                    height=4,
                    text="1: every gateway reaches it.",
                    steps=((None, "red"), (1, "green")),
                ),
                Panel(
                    "Upstream",
                    [
                        Query(
                            f"min by (provider) (gateway_provider_up{{{PROVIDER}}})",
                            "{{provider}}",
                            instant=True,
                        )
                    ],
                    "stat",
                    width=4,
                    height=4,
                    text="1: our account is served, say all gateways.",
                    steps=((None, "red"), (1, "green")),
                ),
                Panel(
                    "Error budget's pace",
                    [Query("gateway:orders_bad:ratio_rate1h / 0.005", instant=True)],
                    "stat",
                    width=4,
                    height=4,
                    text="1 is the pace that leaves nothing after 30 days; above 14.4 it pages.",
                    steps=((None, "green"), (1, "orange"), (14.4, "red")),
                ),
                Panel(
                    "Oldest task",
                    [Query("max(gateway_task_age_seconds_max)", instant=True)],
                    *("stat", "s"),
                    width=4,
                    height=4,
                    steps=((None, "green"), (300, "orange"), (900, "red")),
                ),
                Panel(
                    "Versions",
                    [Query("count by (version) (gateway_build_info)", "{{version}}", instant=True)],
                    "stat",
                    width=4,
                    height=4,
                    text="Gateways by the release they run.",
                ),
            ],
        ),
        (
            "Calls",
            [
                Panel(
                    "Rate by route",
                    [
                        Query(
                            f"sum by (route) (rate(gateway_requests_total{{{TEAM}}}"
                            "[$__rate_interval]))",
                            "{{route}}",
                        )
                    ],
                    unit="reqps",
                    stacked=True,
                ),
                Panel(
                    "Errors by code",
                    [
                        Query(
                            "sum by (status, code) (rate(gateway_requests_total"
                            f'{{{TEAM}, code!=""}}[$__rate_interval]))',
                            "{{status}} {{code}}",
                        )
                    ],
                    unit="reqps",
                ),
                Panel(
                    "Rejections by reason",
                    [
                        Query(
                            f"sum by (reason) (rate(gateway_rejections_total{{{TEAM}}}"
                            "[$__rate_interval]))",
                            "{{reason}}",
                        )
                    ],
                    unit="reqps",
                    text="Refused before anything was ordered: they cost nothing.",
                ),
            ],
        ),
        (
            "Upstream",
            [
                Panel(
                    "Calls by kind and status",
                    [
                        Query(
                            "sum by (call, status) (rate(gateway_upstream_requests_total"
                            f"{{{PROVIDER}}}[$__rate_interval]))",
                            "{{call}} {{status}}",
                        )
                    ],
                    unit="reqps",
                ),
                Panel(
                    "Credits left",
                    [
                        Query(
                            f"min by (provider) (gateway_provider_credits{{{PROVIDER}}})",
                            "{{provider}}",
                        )
                    ],
                    text="In the provider's own unit, by its own word.",
                ),
                Panel(
                    "Renders by outcome",
                    [
                        Query(
                            f"sum by (outcome) (rate(gateway_renders_total{{{MODEL}, {PROVIDER}}}"
                            "[$__rate_interval]))",
                            "{{outcome}}",
                        )
                    ],
                    unit="ops",
                    stacked=True,
                ),
            ],
        ),
        (
            "Tasks",
            [
                Panel(
                    "In flight",
                    [
                        Query(
                            f"sum by (provider) (gateway_tasks_in_flight{{{PROVIDER}}})",
                            "{{provider}}",
                        )
                    ],
                    width=6,
                ),
                Panel(
                    "Recovered, and joined retries",
                    [
                        Query(
                            "sum(increase(gateway_recovered_tasks_total[$__rate_interval]))",
                            "taken over",
                        ),
                        Query(
                            f"sum(increase(gateway_repriced_tasks_total{{{PROVIDER}}}"
                            "[$__rate_interval]))",
                            "repriced",
                        ),
                        Query(
                            f"sum(increase(gateway_joined_retries_total{{{TEAM}}}"
                            "[$__rate_interval]))",
                            "joined",
                        ),
                    ],
                    width=6,
                    text="Tasks taken over from processes that died or stopped; those whose quoted"
                    " prices nobody knew.",
                ),
                Panel(
                    "Callbacks",
                    [
                        Query(
                            "sum by (direction, outcome) (rate(gateway_callbacks_total"
                            "[$__rate_interval]))",
                            "{{direction}} {{outcome}}",
                        )
                    ],
                    unit="ops",
                    width=6,
                ),
                Panel(
                    "Money nobody can account for",
                    [
                        Query(
                            f"sum by (provider) (increase(gateway_possible_charge_usd_total"
                            f"{{{PROVIDER}}}[$__range]))",
                            "{{provider}} possible charges",
                        ),
                        Query(
                            f"sum by (provider) (increase(gateway_billing_drift_usd_total"
                            f"{{{PROVIDER}}}[$__range]))",
                            "{{provider}} billing drift",
                        ),
                        Query(
                            f"sum(increase(gateway_hold_overrun_usd_total{{{TEAM}}}[$__range]))",
                            "above holds",
                        ),
                    ],
                    unit="currencyUSD",
                    width=6,
                    text="Over the time shown.",
                ),
            ],
        ),
        (
            "Pictures",
            [
                Panel(
                    "Not stored yet",
                    [Query("sum(gateway_assets_waiting)", "waiting")],
                    width=6,
                    text="Paid for; tried again until their links die.",
                ),
                Panel(
                    "Room left for them",
                    [Query("gateway_assets_free_bytes", "{{instance}}")],
                    unit="bytes",
                    width=6,
                    text="Where they are kept in a folder.",
                ),
                Panel(
                    "Errors of their store",
                    [
                        Query(
                            "sum by (operation, reason) (rate(gateway_assets_errors_total"
                            "[$__rate_interval]))",
                            "{{operation}} {{reason}}",
                        )
                    ],
                    unit="ops",
                    width=6,
                ),
                Panel(
                    "Cut off at the provider",
                    [
                        Query(
                            "sum by (provider) (increase(gateway_pictures_cut_total"
                            f"{{{PROVIDER}}}[1h]))",
                            "{{provider}}",
                        )
                    ],
                    width=6,
                    text="In the last hour. The provider has only a part of them, however often it"
                    " is asked: that was delivered, and has cost as much as a whole one.",
                ),
            ],
        ),
        (
            "House",
            [
                Panel(
                    "Ledger store, by gateway",
                    [Query("gateway_store_up", "{{instance}}")],
                    most=1.0,
                ),
                Panel(
                    "Dead loops",
                    [Query("sum by (loop) (increase(gateway_loop_deaths_total[1h]))", "{{loop}}")],
                    text="In the last hour; a gateway whose loop died ends and is started again.",
                ),
                Panel(
                    "Settings files, by what became of them",
                    [
                        Query(
                            "sum by (outcome) (increase(gateway_config_reloads_total[1h]))",
                            "{{outcome}}",
                        )
                    ],
                    text="In the last hour, by process; one that is refused changes nothing.",
                ),
                Panel(
                    "Calls without a price",
                    [
                        Query(
                            f"sum by (model) (increase(gateway_price_miss_total{{{MODEL}}}[1h]))",
                            "{{model}}",
                        )
                    ],
                    width=12,
                    text="In the last hour.",
                ),
                Panel(
                    "Announcements of budgets, by what became of them",
                    [
                        Query(
                            "sum by (outcome) (increase(gateway_alerts_total[1h]))",
                            "{{outcome}}",
                        )
                    ],
                    width=12,
                    text="In the last hour. One that fails is tried again until its window is"
                    " over.",
                ),
            ],
        ),
    ],
)
