"""Why a picture was slow."""

from __future__ import annotations

from grafana import MODEL, ORDERS, PROVIDER, TEAM, Dashboard, Panel, Query, quantiles

PHASES = "gateway_phase_duration_seconds"
SELECTED = f"{MODEL}, {PROVIDER}"
LATENCY = Dashboard(
    "gateway-latency",
    "Image gateway / Latency",
    "Why a picture was slow.",
    [
        (
            "Where the time goes",
            [
                Panel(
                    f"Phases, {name}",
                    [
                        Query(
                            f"histogram_quantile({point}, sum by (phase, le)"
                            f" (rate({PHASES}_bucket{{{SELECTED}}}[$__rate_interval])))",
                            "{{phase}}",
                        )
                    ],
                    unit="s",
                    width=12,
                    height=9,
                    stacked=True,
                    text="Each phase's own quantile, one on the other: what a picture would take"
                    " that has all of them.",
                )
                for name, point in (("half of all pictures", 0.5), ("one in twenty", 0.95))
            ],
        ),
        (
            "How long a call takes",
            [
                Panel(
                    "$model",
                    [
                        Query(
                            "sum by (le) (increase(gateway_request_duration_seconds_bucket{"
                            f'{ORDERS}, {TEAM}, model=~"$model"}}[$__rate_interval]))',
                            "{{le}}",
                            form="heatmap",
                        )
                    ],
                    *("heatmap", "s"),
                    width=12,
                    height=9,
                    repeat="model",
                    text="Calls for pictures, from their first byte to the answer's last.",
                ),
                Panel(
                    "One in twenty takes longer than",
                    [
                        Query(
                            f"model:gateway_request_duration_seconds:p95_rate10m{{{MODEL}}}",
                            "{{model}}",
                        )
                    ],
                    unit="s",
                    width=12,
                    height=9,
                ),
            ],
        ),
        (
            "What the gateway adds",
            [
                Panel(
                    "Overhead",
                    quantiles("gateway_overhead_seconds", ORDERS, "", 0.5, 0.95, 0.99),
                    unit="s",
                    text="The gateway's own part: without the upstream's, and without what clients"
                    " take to send and to read. Waits for a turn are in it.",
                ),
                Panel(
                    "Detection lag",
                    quantiles("gateway_detection_lag_seconds", PROVIDER, "provider", 0.5, 0.95),
                    unit="s",
                    text="At most so long after its end a picture was noticed.",
                ),
                Panel(
                    "Polls per picture",
                    [
                        Query(
                            f"sum by (provider) (rate(gateway_polls_per_render_sum{{{PROVIDER}}}"
                            "[$__rate_interval])) / sum by (provider) (rate("
                            f"gateway_polls_per_render_count{{{PROVIDER}}}[$__rate_interval]))",
                            "{{provider}}",
                        )
                    ],
                    text="The mean; polling.budget bounds it.",
                ),
                Panel(
                    "Late polls",
                    [
                        Query(
                            "histogram_quantile(0.95, sum by (provider, le)"
                            f" (rate(gateway_poll_put_off_seconds_bucket{{{PROVIDER}}}"
                            "[$__rate_interval])))",
                            "{{provider}} put off p95",
                        ),
                        *quantiles("gateway_poll_lateness_seconds", PROVIDER, "provider", 0.95),
                        Query(
                            f"max by (provider) (gateway_poll_lateness_seconds_max{{{PROVIDER}}})",
                            "{{provider}} worst",
                        ),
                    ],
                    unit="s",
                    width=12,
                    text="A process that cannot keep up with its polls shows here first.",
                ),
                Panel(
                    "Waiting for their turn",
                    [
                        Query(
                            f"sum by (provider) (gateway_queue_length{{{PROVIDER}}})",
                            "{{provider}}",
                        )
                    ],
                    width=12,
                    text="Renders that wait for max_in_flight or max_submits_per_second.",
                ),
            ],
        ),
    ],
)
