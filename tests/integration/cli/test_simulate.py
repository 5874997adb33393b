import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

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


def test_taken_port_is_refused() -> None:
    """A port in use ends the command with code 1 and a reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*RUN, "--port", port], capture_output=True, text=True, timeout=60, check=False
        )

    assert (done.returncode, done.stdout) == (1, "")
    assert "address already in use" in done.stderr.lower()


@pytest.mark.parametrize("option", ["--latency-median=-1", "--latency-sigma=-1", "--port=70000"])
def test_impossible_options(option: str) -> None:
    """Values that cannot work are usage errors."""
    done = subprocess.run([*RUN, option], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
