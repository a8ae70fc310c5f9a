"""`sslzoo watch`: pages of runs that are there, for this machine alone; and in a browser, live."""

import http.client
import json
import threading
import time

import chromium
import pytest
from folders import VISUALIZATION, make_run

from sslzoo.errors import ConfigError, UserError
from sslzoo.report import watch


@pytest.fixture
def root(tmp_path):
    run = make_run(tmp_path / "runs" / "one<b>", probes={})
    import torch

    torch.save(VISUALIZATION, run.visualization)
    (run.folder / "DONE").unlink(missing_ok=True)
    run.events.write_text(json.dumps({"step": 7, "kind": "one code", "message": "almost all get <one> code"}) + "\n")
    beat(run, 40)
    make_run(tmp_path / "secret", probes={})
    return tmp_path / "runs"


def beat(run, step: int) -> None:
    said = {
        "step": step,
        "of": 200,
        "time": time.time(),
        "seconds": 8.0,
        "steps": step,
        "loss": 2.0,
        "host": "x",
        "pid": 1,
    }
    run.heartbeat.write_text(json.dumps(said))
    lines = "\n".join(f"{n},{5 - n / 90},0.5" for n in range(step))
    run.metrics.write_text(f"step,loss,feature_std\n{lines}\n")


@pytest.fixture
def server(root):
    with watch.serving(root, 0) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def get(server, path: str, host: str | None = None) -> tuple[int, str]:
    link = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    link.request("GET", path, headers={"Host": host} if host else {})
    answer = link.getresponse()
    return answer.status, answer.read().decode()


def test_what_the_pages_say(server):
    assert server.server_address[0] == "127.0.0.1"
    code, page = get(server, "/")
    assert code == 200 and "one&lt;b&gt;" in page and "<b>" not in page.replace("<body>", "")
    assert "step 40 of 200, 5 steps/s, 0.5 minutes left" in page and "running" in page
    code, page = get(server, "/run/one%3Cb%3E")
    assert code == 200 and "almost all get &lt;one&gt; code" in page and "feature_std" in page
    assert 'http-equiv="refresh"' in page and "What was asked, and what was answered" in page


@pytest.mark.parametrize(
    "path",
    [
        "/run/../secret",
        "/run/%2e%2e/secret",
        "/run/..%2fsecret",
        "/run//etc/passwd",
        "/run/",
        "/secret",
        "/../../etc/passwd",
    ],
)
def test_no_name_leads_outside(server, path):
    code, page = get(server, path)
    assert code == 404 and "root:" not in page


def test_another_hosts_name_is_refused(server):
    assert get(server, "/", "evil.example:80")[0] == 403
    assert get(server, "/", "localhost:1")[0] == 200


def test_a_port_in_use_and_one_that_is_none(server, root):
    with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{server.server_port}: .* --port"):
        watch.serving(root, server.server_port)
    with pytest.raises(ConfigError, match="--port is a number from 0 to 65535"):
        watch.serving(root, 70000)


@pytest.mark.slow
@pytest.mark.skipif(chromium.path() is None, reason="no Chromium on the path")
def test_a_browser_follows_a_run(server, root, tmp_path):
    from sslzoo.run import Run

    browser = chromium.Browser(tmp_path / "profile")
    try:
        browser.send("Page.navigate", url=f"http://127.0.0.1:{server.server_port}/")

        def until(code: str) -> None:
            end = time.monotonic() + 60
            while not browser.js(f"!!document.body && ({code})"):
                assert time.monotonic() < end, browser.js("document.body.innerText")
                time.sleep(0.1)

        until("document.body.innerText.includes('step 40 of 200')")
        browser.js("document.querySelector('a[href^=\"/run/\"]').click()")
        until("document.querySelectorAll('svg').length > 1 && document.body.innerText.includes('step 40 of 200')")
        beat(Run(root / "one<b>"), 90)
        until("document.body.innerText.includes('step 90 of 200')")  # it loads itself again
        assert browser.errors == [] or all("favicon" in error or "404" in error for error in browser.errors)
    finally:
        browser.close()
