"""`sslzoo watch`: pages that follow runs live, from the standard library's HTTP server, on 127.0.0.1 alone.

/ lists the runs under a root; /run/NAME shows one: how far it is, its speed, losses, health, warnings, and pictures of
its masks or views. Each page loads itself again every few seconds. NAME is looked up among the runs that are there, so
that no name leads out of the root; nothing can be changed through it.
"""

import time
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from sslzoo.errors import ConfigError, UserError
from sslzoo.report import page, runs
from sslzoo.report.record import read
from sslzoo.report.section import section
from sslzoo.run import Run

EVERY = 5  # seconds until a page loads itself again
HOSTS = ("127.0.0.1", "localhost")  # another name in a request is that of a page elsewhere (DNS rebinding)


def serving(root: Path, port: int) -> ThreadingHTTPServer:
    """A server of the pages on 127.0.0.1. Raises ConfigError for a number that is no port, UserError for one in use."""
    if not 0 <= port < 65536:
        raise ConfigError(f"--port is a number from 0 to 65535, got {port}")
    handler = type("Handler", (_Handler,), {"root": root})
    try:
        return ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise UserError(f"cannot listen on 127.0.0.1:{port}: {error.strerror} — set --port to another, or 0") from error


def listing(root: Path) -> str:
    """The page of all runs under a root."""
    lines = []
    for row in runs.rows(root):
        beat = runs.heartbeat(Run(Path(row.folder)))
        scores = ", ".join(f"{task} {100 * value:.1f}" for task, value in row.scores.items())
        cells = [row.status, progress(beat), runs.figure(row.loss), runs.figure(row.val_loss), scores, row.fault or ""]
        link = f'<a href="/run/{quote(row.name)}">{escape(row.name)}</a>'
        lines.append(f"<tr><td>{link}</td>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{name}</th>" for name in ("run", "status", "progress", "loss", "val_loss", "scores", ""))
    table = f'<table class="runs"><tr>{head}</tr>{"".join(lines)}</table>' if lines else "<p>there are no runs yet</p>"
    return live(page.whole(f"runs in {root}", [f"<header><h1>{escape(str(root))}</h1></header>", table]))


def one(run: Run, name: str) -> str:
    """The page of one run."""
    row, record = runs.row(run, name), read(run)
    facts = [row.status, progress(runs.heartbeat(run)), f"loss {runs.figure(row.loss)}" if row.loss is not None else ""]
    facts += [f"val_loss {runs.figure(row.val_loss)}" if row.val_loss is not None else "", row.fault or ""]
    said = "".join(
        f"<li>step {escape(str(e.get('step')))}: {escape(str(e.get('message')))}</li>" for e in record.events
    )
    body = [
        f'<header><p><a href="/">all runs</a></p><h1>{escape(name)}</h1>',
        f'<p class="facts">{escape(" · ".join(filter(None, facts)))}</p>{f"<ul>{said}</ul>" if said else ""}</header>',
        f"<section>{section([record])}</section>",
    ]
    return live(page.whole(name, body))


def progress(beat: dict | None) -> str:
    """Step, speed and time left, from a heartbeat, in words."""
    if beat is None:
        return ""
    text = f"step {beat['step']:,} of {beat['of']:,}"
    if beat["steps"] > 0 and beat["seconds"] > 0:
        speed = beat["steps"] / beat["seconds"]
        text += f", {speed:.3g} steps/s, {(beat['of'] - beat['step']) / speed / 60:.1f} minutes left"
        if "data_seconds" in beat:
            text += f", {beat['data_seconds']:.1f} of {beat['seconds']:.0f} s waited for data"
        if "mfu" in beat:
            text += f", MFU {beat['mfu']:.0%}"
    old = time.time() - beat["time"]
    return text + (f", {old:.0f} s ago" if old > 3 * EVERY else "")


def live(html: str) -> str:
    return html.replace(
        '<meta charset="utf-8">', f'<meta charset="utf-8"><meta http-equiv="refresh" content="{EVERY}">', 1
    )


class _Handler(BaseHTTPRequestHandler):
    root: Path

    def do_GET(self) -> None:
        if (self.headers.get("Host") or "").rsplit(":", 1)[0] not in HOSTS:
            self.answer(403, "<p>this page is for this machine alone</p>")
            return
        path = unquote(urlsplit(self.path).path, errors="surrogateescape")
        try:
            if path == "/":
                self.answer(200, listing(self.root))
                return
            known = {folder.relative_to(self.root).as_posix(): folder for folder in runs.folders(self.root)}
            name = path.removeprefix("/run/")
            if path.startswith("/run/") and name in known:
                self.answer(200, one(Run(known[name]), name))
            else:
                self.answer(404, '<p>there is no such run: <a href="/">all runs</a></p>')
        except (OSError, ValueError, KeyError) as error:  # a file that is being written, or removed
            self.answer(500, f"<p>{escape(type(error).__name__)}: {escape(str(error))}</p>")

    def answer(self, code: int, html: str) -> None:
        content = html.encode(errors="replace")
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Requests are not printed."""
