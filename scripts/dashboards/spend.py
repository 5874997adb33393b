"""What teams spend, on what, and what their budgets leave."""

from __future__ import annotations

from grafana import MODEL, PROVIDER, TEAM, Dashboard, Panel, Query

COST = f"gateway_cost_usd_total{{{TEAM}, {MODEL}, {PROVIDER}}}"
SPEND = Dashboard(
    "gateway-spend",
    "Image gateway / Spend",
    "What teams spend, on what, and what their budgets leave.",
    [
        (
            "In the time shown",
            [
                Panel(
                    "Spent",
                    [Query(f"sum(increase({COST}[$__range]))", instant=True)],
                    *("stat", "currencyUSD"),
                    width=5,
                    height=4,
                    text="Settled in the ledger, possible charges among it.",
                ),
                Panel(
                    "Per hour, now",
                    [Query(f"sum(team:gateway_cost_usd:increase1h{{{TEAM}}})", instant=True)],
                    *("stat", "currencyUSD"),
                    width=5,
                    height=4,
                    text="The last hour, of the teams that are chosen.",
                ),
                Panel(
                    "Cost per delivered picture",
                    [
                        Query(
                            f"sum(increase({COST}[$__range])) / sum(increase("
                            f"gateway_images_total{{{TEAM}, {MODEL}, {PROVIDER}}}[$__range]))",
                            instant=True,
                        )
                    ],
                    *("stat", "currencyUSD"),
                    width=5,
                    height=4,
                    text="All that was paid, over the pictures that were kept: failures that were"
                    " charged make it dearer than the price list.",
                ),
                Panel(
                    "Saved by joined retries",
                    [
                        Query(
                            f"sum(increase(gateway_saved_usd_total{{{TEAM}}}[$__range]))",
                            instant=True,
                        )
                    ],
                    *("stat", "currencyUSD"),
                    width=5,
                    height=4,
                    text="What retries would have cost that got the picture of their first try.",
                ),
                Panel(
                    "Paid but undelivered",
                    [
                        Query(
                            f"sum(max by (team) (gateway_paid_undelivered_usd{{{TEAM}}}))",
                            instant=True,
                        )
                    ],
                    *("stat", "currencyUSD"),
                    width=4,
                    height=4,
                    text="Pictures that nobody waits for and nobody has fetched yet.",
                    steps=((None, "green"), (1, "orange")),
                ),
            ],
        ),
        (
            "Cost per hour",
            [
                Panel(
                    f"By {by}",
                    [
                        Query(
                            f"sum by ({by}) (rate({COST}[$__rate_interval])) * 3600",
                            f"{{{{{by}}}}}",
                        )
                    ],
                    unit="currencyUSD",
                    width=6,
                    stacked=True,
                    text="Dollars an hour at the pace of the moment.",
                )
                for by in ("team", "model", "provider", "category")
            ],
        ),
        (
            "Budgets",
            [
                Panel(
                    "Spent of each budget, and what it will be at the end of its window",
                    [
                        Query(
                            f"budget:gateway_budget_spent:ratio{{{TEAM}}}",
                            "{{team}} {{name}}: spent",
                            instant=True,
                        ),
                        Query(
                            f"budget:gateway_budget_forecast:ratio{{{TEAM}}}",
                            "{{team}} {{name}}: forecast",
                            instant=True,
                        ),
                    ],
                    *("bargauge", "percentunit"),
                    width=12,
                    height=10,
                    most=1.0,
                    text="The forecast goes on as the window went so far. A total has none. Those"
                    " of the organization have the team of that name.",
                    steps=((None, "green"), (0.8, "orange"), (1, "red")),
                ),
                Panel(
                    "Left of each budget",
                    [
                        Query(
                            f"max by (team, name) (gateway_budget_limit_usd{{{TEAM}}})"
                            f" - max by (team, name) (gateway_budget_spent_usd{{{TEAM}}})"
                            f" - max by (team, name) (gateway_budget_held_usd{{{TEAM}}})",
                            "{{team}} {{name}}",
                        )
                    ],
                    unit="currencyUSD",
                    width=6,
                    height=10,
                    text="Neither spent nor held.",
                ),
                Panel(
                    "By key",
                    [],
                    "text",
                    width=6,
                    height=10,
                    content="Keys are no label of any metric: there may be thousands, and their"
                    " number is nobody's business who scrapes.\n\nThe books know them:\n\n"
                    "```sh\ngateway usage --team design --by key\ngateway usage --by user\n```\n\n"
                    "Over HTTP, a team's own: `GET /v1/usage`.",
                ),
            ],
        ),
        (
            "Pictures",
            [
                Panel(
                    "Kept, by size and quality",
                    [
                        Query(
                            f"sum by (quality, size) (rate(gateway_images_total{{{TEAM}, {MODEL},"
                            f" {PROVIDER}}}[$__rate_interval])) * 3600",
                            "{{quality}} {{size}}",
                        )
                    ],
                    stacked=True,
                    text="Pictures an hour.",
                ),
                Panel(
                    "Tokens, by category",
                    [
                        Query(
                            f"sum by (category) (rate(gateway_tokens_total{{{TEAM}, {MODEL}}}"
                            "[$__rate_interval])) * 3600",
                            "{{category}}",
                        )
                    ],
                    stacked=True,
                    text="Tokens an hour, as upstreams report them: why one picture cost more than"
                    " another.",
                ),
                Panel(
                    "Held for calls in progress",
                    [
                        Query(
                            f"max by (team, name) (gateway_budget_held_usd{{{TEAM}}})",
                            "{{team}} {{name}}",
                        )
                    ],
                    unit="currencyUSD",
                    text="Upper bounds; what a call truly costs replaces its hold.",
                ),
            ],
        ),
    ],
)
