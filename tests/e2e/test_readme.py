"""The README is what a newcomer runs: its commands and its lines work as they are printed."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image

from gateway.config.load import load

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
START_S = 90.0


def free_port() -> int:
    """Return a port nobody listens on right now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def block(language: str, words: str) -> str:
    """Return the one block that holds these words."""
    [found] = [text for text in blocks(language) if words in text]
    return found


@contextmanager
def running(url: str, *arguments: str, cwd: Path, **environ: str) -> Iterator[None]:
    """Run a gateway command until the block ends; wait until it answers at `url`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway", *arguments],
        cwd=cwd,
        env={**os.environ, **environ},  # noqa: TID251 - a child's environment
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            try:
                httpx.get(url)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(timeout=START_S)


def test_readme_lines_work_as_printed(tmp_path: Path) -> None:
    """Simulator, gateway, the lines of Python and of curl give pictures; only ports differ."""
    upstream, port = free_port(), free_port()
    config = (ROOT / "config.toml").read_text(encoding="utf-8").replace("9100", str(upstream))
    (tmp_path / "config.toml").write_text(config)
    exports = re.findall(r"(\w+)=(\S+)", block("sh", "export EVOLINK_API_KEY"))
    assert "gateway simulate" in block("sh", "gateway simulate")
    with (
        running(
            f"http://127.0.0.1:{upstream}/_sim/stats",
            *("simulate", "--port", str(upstream), "--latency-median", "0.1"),
            cwd=tmp_path,
        ),
        running(
            f"http://127.0.0.1:{port}/healthz",
            *("serve", "--port", str(port)),
            cwd=tmp_path,
            **dict(exports),
        ),
    ):
        python = block("python", "client.images.generate").replace("8080", str(port))
        subprocess.run([sys.executable, "-c", python], cwd=tmp_path, check=True, timeout=60)
        curl = block("sh", "curl -si").replace("8080", str(port))
        answer = subprocess.run(
            ["/bin/sh", "-c", curl],
            cwd=tmp_path,
            check=True,
            timeout=60,
            capture_output=True,
            text=True,
        )

    with Image.open(tmp_path / "fox.png") as picture:
        assert ((1024, 1024), "PNG") == (picture.size, picture.format)
    assert answer.stdout.startswith("HTTP/1.1 200 OK")
    assert "x-gateway-cost-usd: 0.0" in answer.stdout


def test_config_example_of_the_readme_is_valid(tmp_path: Path) -> None:
    """What the README shows as configuration is loaded by the loader the server uses."""
    example = block("toml", "[teams.design]").replace('sha256 = "…"', f'sha256 = "{"0a" * 32}"')
    config = tmp_path / "config.toml"
    config.write_text(example)

    team = load(config, {}).settings.teams["design"]
    assert ["day", "month"] == [budget.per for budget in team.budgets]
    assert ("Asia/Seoul", "low") == (str(team.timezone), team.defaults.quality)
