import inspect
import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from gateway.cli.simulate import simulate

RUN = [
    sys.executable,
    "-c",
    "import typer; from gateway.cli.simulate import simulate; typer.run(simulate)",
]


def test_command_announces_where_it_really_listens() -> None:
    """The one printed line names the port, and the options reach the simulator."""
    options = ["--port", "0", "--latency-median", "0", "--latency-sigma", "0", "--seed", "1"]
    with subprocess.Popen([*RUN, *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            url = re.findall(r"http://127\.0\.0\.1:\d+", line)[0]
            with httpx.Client(base_url=url, headers={"Authorization": "Bearer k"}) as client:
                body = {"model": "gpt-image-1.5", "prompt": "a fox"}
                task_id = client.post("/v1/images/generations", json=body).json()["id"]
                status = client.get(f"/v1/tasks/{task_id}").json()["status"]
        finally:
            process.send_signal(signal.SIGINT)
        rest = process.stdout.read()

    assert status == "completed"
    assert f'base_url = "{url}", result_hosts = ["{url.removeprefix("http://")}"]' in line
    assert (process.returncode, rest) == (0, "")


def test_with_json_the_line_is_for_programs() -> None:
    """The address, and what `result_hosts` must name."""
    with subprocess.Popen(
        [*RUN, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        # Until it serves, whoever started us may have it ignore an interrupt.
        serves = httpx.get(f"{told['listening']}/_sim/stats").is_success
        process.send_signal(signal.SIGINT)

    assert serves
    assert [told["listening"].removeprefix("http://")] == told["result_hosts"]


def submitted(*options: str) -> list[tuple[int, str]]:
    """Return status and Retry-After of three submits to a command with these options."""
    with subprocess.Popen(
        [*RUN, "--port", "0", *options], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = re.findall(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
            with httpx.Client(base_url=url, headers={"Authorization": "Bearer k"}) as client:
                body = {
                    "model": "gpt-image-1.5",
                    "prompt": "a fox",
                    "callback_url": "http://127.0.0.1:9/hook",
                }
                answers = [client.post("/v1/images/generations", json=body) for _ in range(3)]
        finally:
            process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    return [(answer.status_code, answer.headers.get("retry-after", "")) for answer in answers]


def test_faults_come_from_a_file(tmp_path: Path) -> None:
    """The second submit is refused as the file says."""
    faults = tmp_path / "faults.toml"
    faults.write_text('[[rules]]\nroute = "submit"\nplay = "[[html]]"\nnth = [2]\n')

    assert submitted("--faults", str(faults)) == [(200, ""), (502, ""), (200, "")]


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        (["--max-in-flight", "2"], [(200, ""), (200, ""), (429, "2")]),
        (
            ["--submits-per-second", "0.001", "--retry-after", "none"],
            [(200, ""), (429, ""), (429, "")],
        ),
        (["--balance", "9"], [(200, ""), (402, ""), (402, "")]),
        (["--strict-callbacks"], [(400, ""), (400, ""), (400, "")]),
    ],
)
def test_options_reach_the_simulator(options: list[str], answers: list[tuple[int, str]]) -> None:
    """Limits, balance and the rule for callbacks are options."""
    assert submitted(*options) == answers


def test_odd_file_of_faults_is_refused(tmp_path: Path) -> None:
    """A mistake in the file ends the command with code 1 and its place."""
    faults = tmp_path / "faults.toml"
    faults.write_text('[[rules]]\nroute = "submit"\nplay = "[[fail:nonsense]]"\n')
    done = subprocess.run(
        [*RUN, "--port", "0", "--faults", str(faults)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert f"Error: {faults}: rules[0].play: " in done.stderr


def test_taken_port_is_refused() -> None:
    """A port in use ends the command with code 1 and a reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*RUN, "--port", port], capture_output=True, text=True, timeout=60, check=False
        )

    assert (done.returncode, done.stdout) == (1, "")
    assert "address already in use" in done.stderr.lower()


@pytest.mark.parametrize(
    "option",
    [
        "--latency-median=-1",
        "--latency-sigma=-1",
        "--latency-profile=weekly",
        "--balance=much",
        "--balance=-1",
        "--max-in-flight=0",
        "--submits-per-second=0",
        "--idempotency=maybe",
        "--port=70000",
    ],
)
def test_impossible_options(option: str) -> None:
    """Values that cannot work are usage errors."""
    done = subprocess.run([*RUN, option], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2


@pytest.mark.parametrize("option", inspect.signature(simulate).parameters)
def test_every_option_is_documented(option: str) -> None:
    """docs/simulator.md names every option of the command."""
    text = (Path(__file__).parents[3] / "docs" / "simulator.md").read_text(encoding="utf-8")

    name = option.removesuffix("_output").replace("_", "-")
    assert f"`--{name}`" in text
