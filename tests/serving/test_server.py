"""A real server process, asked over HTTP."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from edgekit.cli import main
from edgekit.serving.server import Address, listening
from tests.serving.conftest import DEADLINE_S, Server
from tests.tiny_models import IMAGES, expected

INFER = "/v2/models/tiny/infer"
TOKEN = "0123456789abcdef"


def asked(server: Server, path: str, **settings: Any) -> httpx.Response:
    return httpx.get(server.url + path, timeout=DEADLINE_S, **settings)


def posted(server: Server, path: str = INFER, **settings: Any) -> httpx.Response:
    return httpx.post(server.url + path, timeout=DEADLINE_S, **settings)


def request(**more: Any) -> dict[str, Any]:
    image = {"name": "image", "shape": [8, 4], "datatype": "FP32", "data": IMAGES.tolist()}
    return {"inputs": [image], **more}


def binary(head: dict[str, Any], content: bytes) -> dict[str, Any]:
    """A body in Triton's binary form, as httpx takes it."""
    words = json.dumps(head).encode()
    return {"content": words + content, "headers": {"Inference-Header-Content-Length": str(len(words))}}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models/tiny/ready", {"name": "tiny", "ready": True}),
        ("/v2/models/tiny/versions/1.0.0/ready", {"name": "tiny", "ready": True}),
        (
            "/v2/models/tiny",
            {
                "name": "tiny",
                "versions": ["1.10.0", "1.0.0"],
                "platform": "onnxruntime_onnx",
                "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 4]}],
                "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 3]}],
            },
        ),
    ],
)
def test_what_it_says_of_itself(server: Server, path: str, said: dict[str, Any]) -> None:
    answer = asked(server, path)
    assert (answer.status_code, answer.json()) == (200, said)
    assert asked(server, "/v2").json()["extensions"] == ["binary_tensor_data"]


def test_numbers_in_json(server: Server) -> None:
    answer = posted(server, json=request(id="42"))
    assert answer.status_code == 200
    said = answer.json()
    (scores,) = said.pop("outputs")
    assert said == {"model_name": "tiny", "model_version": "1.10.0", "id": "42"}
    assert (scores["name"], scores["datatype"], scores["shape"]) == ("scores", "FP32", [8, 3])
    np.testing.assert_allclose(np.reshape(scores["data"], (8, 3)), expected(IMAGES), atol=1e-6)


def test_numbers_in_binary(server: Server) -> None:
    image = {"name": "image", "shape": [8, 4], "datatype": "FP32", "parameters": {"binary_data_size": IMAGES.nbytes}}
    head = {"model_name": "tiny", "inputs": [image], "parameters": {"binary_data_output": True}}
    answer = posted(server, **binary(head, IMAGES.tobytes()))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["Inference-Header-Content-Length"])
    (scores,) = json.loads(answer.content[:length])["outputs"]
    assert scores["parameters"] == {"binary_data_size": 8 * 3 * 4}
    found = np.frombuffer(answer.content[length:], "<f4").reshape(8, 3)
    np.testing.assert_allclose(found, expected(IMAGES), atol=1e-6)


def test_raw_samples_are_preprocessed_where_the_request_says_so(server: Server) -> None:
    samples = np.array([16384, -16384, 8192], "<i2")
    sound = {"name": "image", "shape": [3], "datatype": "INT16", "data": samples.tolist()}
    raw = {"inputs": [{**sound, "parameters": {"preprocess": True}}]}
    answer = posted(server, "/v2/models/tiny/versions/1.0.0/infer", json=raw)
    assert answer.status_code == 200
    found = np.array(answer.json()["outputs"][0]["data"])
    np.testing.assert_allclose(found, expected(np.array([0.5, -0.5, 0.25, 0.0])), atol=1e-6)
    undeclared = posted(server, json=raw)
    assert undeclared.status_code == 400
    assert "no preprocessing is declared" in undeclared.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v2/models/tine/infer", {}, 404, "no model 'tine'; did you mean 'tiny'?"),
        ("/v2/models/tiny/versions/3/infer", {}, 404, "no version '3' of model 'tiny'"),
        ("/v2/model", {}, 404, "Not Found"),
        ("/v2", {}, 405, "Method Not Allowed"),
        (INFER, {"content": b"{"}, 400, "the request is not JSON"),
        (INFER, {"content": b"[" * 100_000}, 400, "the request is not JSON"),
        (INFER, {"json": request(outputs=[{"name": "score"}])}, 400, "unknown output 'score'; did you mean 'scores'?"),
        (INFER, {"json": {"inputs": []}}, 400, "missing input 'image' (batch, 4) float32"),
        (INFER, {"content": b"x", "headers": {"Content-Encoding": "gzip"}}, 415, "Content-Encoding is 'gzip'"),
        (INFER, {"content": b"x" * ((1 << 20) + 1)}, 413, "the body has 1048577 bytes, at most 1048576 are taken"),
    ],
)
def test_a_mistake_is_one_line_of_json(server: Server, path: str, body: Any, status: int, message: str) -> None:
    answer = posted(server, path, **body)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert message in answer.json()["error"]


def test_a_body_of_unknown_length_is_bounded_too(server: Server) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * (1 << 16)

    answer = posted(server, content=endless())
    assert (answer.status_code, answer.json()["error"]) == (413, "the body has more than 1048576 bytes")


def test_no_answer_waits_for_an_acknowledgement() -> None:
    with listening(Address(port=0)) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_another_host_than_this_machine_is_refused(server: Server) -> None:
    answer = asked(server, "/v2", headers={"Host": "elsewhere.example:80"})
    assert (answer.status_code, "this machine's own name" in answer.json()["error"]) == (403, True)
    for name in ("localhost", "localhost:8000", "[::1]:8000", "127.0.0.1"):
        assert asked(server, "/v2", headers={"Host": name}).status_code == 200


def test_prometheus_counts_answers(server: Server) -> None:
    posted(server, json=request())
    posted(server, "/v2/models/tiny/versions/1.0.0/infer", content=b"{")
    page = asked(server, "/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    assert 'edgekit_requests_total{code="400",model="tiny",version="1.0.0"}' in page.text
    assert 'edgekit_requests_in_flight{model="tiny",version="1.10.0"} 0.0' in page.text
    assert 'engine="onnxruntime",model="tiny",variant="onnx-fp32",version="1.0.0"} 1.0' in page.text
    assert 'edgekit_inference_seconds_count{model="tiny",version="1.10.0"}' in page.text


def test_a_token_is_needed_for_all_but_health(start: Callable[..., Server], bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    server = start(bundle, "--token-file", tmp_path / "token", "--host", "0.0.0.0")
    server.said["url"] = server.url.replace("0.0.0.0", "127.0.0.1")
    assert asked(server, "/v2/health/ready").status_code == 200
    for headers in ({}, {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": TOKEN}):
        for path in ("/v2", "/metrics", "/v2/models/tiny"):
            answer = asked(server, path, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": "board.example"}
    assert posted(server, json=request(), headers=headers).status_code == 200


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_what_is_under_way_is_finished(start: Callable[..., Server], bundle: Path, how: signal.Signals) -> None:
    server = start(bundle)
    content = json.dumps(request()).encode()
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port), timeout=DEADLINE_S) as link:
        link.sendall(head + content[:9])
        while 'in_flight{model="tiny",version="1.0.0"} 1.0' not in asked(server, "/metrics").text:
            pass
        server.process.send_signal(how)
        while accepts(url.host, url.port):
            pass
        link.sendall(content[9:])
        assert link.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
    exit_code, said = server.stop()
    assert (exit_code, said.splitlines()[-1]) == (0, "stopped")


def accepts(host: str, port: int | None) -> bool:
    try:
        socket.create_connection((host, port or 0), timeout=DEADLINE_S).close()
    except ConnectionError:
        return False
    return True


def test_what_cannot_be_started(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "short").write_text("hunter2")
    (tmp_path / "spaces").write_text("not one word but more")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = taken.getsockname()[1]
        for argv, message in (
            (["--host", "0.0.0.0"], "host is '0.0.0.0', which other machines reach: give --token-file"),
            (["--host", "board.local"], "which other machines reach"),
            (["--port", str(busy)], f"cannot listen on 127.0.0.1:{busy}: Address already in use"),
            (["--port", "70000"], "port is 70000, expected 0 to 65535"),
            (["--workers", "0"], "workers is 0, expected 1 or more"),
            (["--queue", "-1"], "queue is -1, expected 0 or more"),
            (["--max-body-mib", "0"], "the largest body is 0 bytes"),
            (["--variant", "tflite-fp33"], "did you mean 'tflite-fp32'?"),
            (["--require-signature"], "not signed, and a signature is demanded"),
            (["--token-file", str(tmp_path / "none")], "cannot read the token"),
            (["--token-file", str(tmp_path / "short")], "expected one line of at least 16 characters"),
            (["--token-file", str(tmp_path / "spaces")], "without spaces"),
            ([str(bundle)], "tiny 1.0.0 is given twice: leave one out"),
        ):
            assert main(["serve", str(bundle), *argv]) == 2
            assert message in capsys.readouterr().err
