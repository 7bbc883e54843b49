"""A run over HTTP: the answers of `predict`, one line for each fault, the page in a browser."""

import http.client
import json
import shutil
import socket
import subprocess
import threading

import numpy as np
import pytest
from PIL import Image

from polytask.app import page
from polytask.deploy import load
from polytask.deploy.serve import MOST_BYTES, Server
from polytask.errors import UserError


@pytest.fixture(scope="module")
def server(run_folder):
    made = Server(load(run_folder), "127.0.0.1", 0, page())
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def ask(server, method, place, body=None, headers=()):
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=600)
    try:
        connection.request(method, place, body, dict(headers))
        reply = connection.getresponse()
        text = reply.read()
        kind = reply.getheader("Content-Type")
        return reply.status, json.loads(text) if kind == "application/json" else text
    finally:
        connection.close()


def test_answers_are_those_of_predict(server, photo):
    wanted = json.loads(json.dumps(server.model.predict(photo)))
    assert ask(server, "POST", "/predict", photo.read_bytes()) == (200, {"answers": wanted})
    status, found = ask(server, "POST", "/predict?task=digit", photo.read_bytes())
    assert (status, found) == (200, {"answers": {"digit": wanted["digit"]}})


def test_tasks_are_told(server):
    status, found = ask(server, "GET", "/tasks")
    assert status == 200
    assert found["tasks"]["digit"] == {"kind": "classification", "classes": list("0123456789")}


@pytest.mark.parametrize(
    ("method", "place", "body", "headers", "status", "told"),
    [
        ("POST", "/predict", b"no picture", {}, 400, "image"),
        ("POST", "/predict", b"", {}, 400, "empty"),
        ("POST", "/predict?task=digti", b"", {}, 400, "empty"),
        ("POST", "/elsewhere", b"x", {}, 404, "/predict"),
        ("GET", "/../secret", None, {}, 404, "/tasks"),
        ("POST", "/predict", b"", {"Content-Length": str(MOST_BYTES + 1)}, 413, "up to"),
        ("POST", "/predict", b"", {"Content-Length": "-1"}, 413, "up to"),
        ("GET", "/tasks", None, {"Host": "elsewhere.example"}, 403, "this machine"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(server, method, place, body, headers, status, told):
    found, document = ask(server, method, place, body, headers.items())
    assert found == status
    assert told in document["error"]
    assert "\n" not in document["error"]


def test_an_unknown_task_is_told_with_the_nearest(server, photo):
    status, found = ask(server, "POST", "/predict?task=digti", photo.read_bytes())
    assert status == 400
    assert 'Did you mean "digit"?' in found["error"]


def test_a_port_in_use_is_told(server):
    with pytest.raises(UserError, match=r"cannot listen.*--port"):
        Server(server.model, "127.0.0.1", server.server_port)


@pytest.mark.parametrize("host", ["203.0.113.1", "nowhere.invalid", "2001:db8::1", "a" * 64])
def test_an_address_that_is_not_this_machines_is_told(server, host):
    with pytest.raises(UserError, match=r"^--host: cannot listen on .*with --host"):
        Server(server.model, host, 0)


def test_it_listens_on_the_loopback_of_ipv6(server):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
    other = Server(server.model, "::1", 0)
    thread = threading.Thread(target=other.serve_forever, daemon=True)
    thread.start()
    assert other.address == f"http://[::1]:{other.server_port}/"
    assert ask(other, "GET", "/tasks") == ask(server, "GET", "/tasks")
    assert ask(other, "GET", "/tasks", None, [("Host", "elsewhere.example")])[0] == 403
    other.shutdown()
    other.server_close()


def test_without_a_page_there_is_none(run_folder):
    bare = Server(load(run_folder), "127.0.0.1", 0)
    thread = threading.Thread(target=bare.serve_forever, daemon=True)
    thread.start()
    assert ask(bare, "GET", "/")[0] == 404
    bare.shutdown()
    bare.server_close()


def test_the_page_asks_nobody_else():
    text = page().decode()
    assert "http:" not in text.replace("http-equiv", "")
    assert "https:" not in text
    assert "innerHTML" not in text  # names of classes are text, whatever they hold


@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")
def test_the_page_shows_every_answer_in_a_browser(server, photo, tmp_path):
    """A page that frames the real one, puts a file into its input and prints what appears."""
    pixels = list(photo.read_bytes())
    driver = f"""<!doctype html><iframe id=it src="/"></iframe><pre id=found></pre><script>
    it.onload = () => {{
      const inside = it.contentDocument, bytes = new Uint8Array({pixels});
      const given = new DataTransfer();
      given.items.add(new File([bytes], "photo.png", {{type: "image/png"}}));
      const input = inside.getElementById("file");
      input.files = given.files;
      input.dispatchEvent(new Event("change"));
      setInterval(() => {{
        found.textContent = [...inside.querySelectorAll("h2, .error")].map(n => n.textContent);
      }}, 50);
    }};</script>"""
    framed = Server(server.model, "127.0.0.1", 0, page())
    pages = {"/": framed.page, "/driver": driver.encode()}

    class Both(framed.RequestHandlerClass):
        def do_GET(self):
            self.server.page = pages["/driver" if self.path == "/driver" else "/"]
            self.path = "/"
            super().do_GET()

    framed.RequestHandlerClass = Both
    thread = threading.Thread(target=framed.serve_forever, daemon=True)
    thread.start()
    done = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--disable-quic", f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000"),
            *("--dump-dom", f"{framed.address}driver"),
        ],
        capture_output=True,
        text=True,
        timeout=600,
    )
    framed.shutdown()
    framed.server_close()
    assert '<pre id="found">shape,looks,digit</pre>' in done.stdout
