#!/usr/bin/env python3
"""Opens a page of `facepipe report` in headless Chromium and uses it like a person.

    report_browser.py report.html [SCREENSHOT_FOLDER]

Prints its findings as JSON. The exit code is 1 if something is wrong, and 77 if there is no Chromium.
Needs only Python and Chromium.
"""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

BROWSERS = ["chromium", "chromium-browser", "google-chrome"]


class Browser:
    """Speaks the DevTools protocol over a pipe."""

    def __init__(self, program, profile):
        to_browser, self.to = os.pipe()
        self.back, from_browser = os.pipe()

        def pipes():
            os.dup2(to_browser, 63)
            os.dup2(from_browser, 64)
            os.dup2(63, 3)
            os.dup2(64, 4)

        command = [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
                   "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            command, preexec_fn=pipes, close_fds=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.buffer, self.count, self.events, self.session = b"", 0, [], None

    def message(self):
        while b"\0" not in self.buffer:
            data = os.read(self.back, 1 << 16)
            if not data:
                sys.exit("Chromium ended")
            self.buffer += data
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def send(self, method, **params):
        self.count += 1
        request = {"id": self.count, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        os.write(self.to, json.dumps(request).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.count:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def attach(self):
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"]:
            self.send(f"{domain}.enable")

    def evaluate(self, expression):
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            sys.exit(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, expression, seconds=10):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.evaluate(expression):
                return True
            time.sleep(0.05)
        return False

    def key(self, key, modifiers=0):
        text = {"Enter": "\r"}.get(key, "")
        code = {"Enter": 13, "Tab": 9, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38,
                "ArrowRight": 39, "ArrowDown": 40}[key]
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def click(self, x, y):
        for kind in ["mousePressed", "mouseReleased"]:
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path):
        data = self.send("Page.captureScreenshot", format="png")["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))

    def size(self, width, height):
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)

    def scheme(self, scheme):
        self.send("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": scheme}])


def check(browser, page, pictures):
    found, wrong = {}, []

    def expect(what, holds):
        if not holds:
            wrong.append(what)

    browser.size(1400, 1000)
    started = time.monotonic()
    browser.send("Page.navigate", url=page.resolve().as_uri())
    browser.wait("document.readyState === 'complete'", 60)
    found["seconds_to_load"] = round(time.monotonic() - started, 2)
    found["elements"] = browser.evaluate("document.querySelectorAll('*').length")
    found["spans"] = browser.evaluate("document.querySelectorAll('.span').length")

    # Only the page, and what it plays and shows, is fetched.
    requests = [e["params"]["request"]["url"] for e in browser.events
                if e["method"] == "Network.requestWillBeSent"]
    expect(f"fetched {requests}", all(r.startswith(("file:", "data:")) for r in requests))

    if found["spans"]:
        span = "document.querySelectorAll('.input .span')[0]"
        section = f"{span}.closest('.input')"
        video = f"{section}.querySelector('video')"
        found["label"] = browser.evaluate(f"{span}.ariaLabel")
        browser.evaluate(f"{section}.scrollIntoView()")
        if browser.evaluate(f"!!{video}"):
            browser.wait(f"{video}.readyState >= 2 || {video}.hidden")
            found["plays"] = browser.evaluate(f"{video}.videoWidth > 0")
            hint = browser.evaluate(f"!{section}.querySelector('.player .hint').hidden")
            expect("a hint where the video cannot be played, else none", hint != found["plays"])

        position = f"{section}.querySelector('.position').textContent"
        last = f"[...{section}.querySelectorAll('.line .bar')].find(b => b.children.length).lastChild"
        # The mouse, on the last appearance of the first row.
        x, y = browser.evaluate(f"(() => {{ const b = {last}.getBoundingClientRect();"
                                " return [b.x + b.width / 2, b.y + b.height / 2]; })()")
        browser.click(x, y)
        first, end = browser.evaluate(f"[+{last}.dataset.first, +{last}.dataset.last]")
        time.sleep(0.5)
        found["position_after_click"] = browser.evaluate(position)
        if found.get("plays"):
            at = found["video_after_click"] = browser.evaluate(f"{video}.currentTime")
            expect("a click jumps in the video", first - 1 <= 1000 * at <= end + 1)

        # The keyboard: one stop in the tab order, arrows between spans, Enter jumps.
        stops = browser.evaluate(f"{section}.querySelectorAll('.span[tabindex=\"0\"]').length")
        expect("one span in the tab order", stops == 1)
        browser.evaluate(f"{section}.querySelector('.span[tabindex=\"0\"]').focus()")
        browser.key("End", modifiers=2)
        active = "document.activeElement"
        expect("Ctrl+End goes to the last row", browser.evaluate(
            f"{active} === [...{section}.querySelectorAll('.span')].at(-1)"))
        browser.key("Home", modifiers=2)
        browser.key("ArrowRight")
        browser.key("ArrowLeft")
        expect("Ctrl+Home goes to the first span", browser.evaluate(
            f"{active} === {section}.querySelector('.span')"))
        browser.key("Enter")
        time.sleep(0.5)
        found["position_after_enter"] = browser.evaluate(position)
        if found.get("plays"):
            at = browser.evaluate(f"{video}.currentTime")
            first = browser.evaluate(f"+{active}.dataset.first")
            expect("Enter jumps to the start", abs(1000 * at - first) <= 1)

        # Zooming keeps all spans and the focus.
        spans = browser.evaluate(f"{section}.querySelectorAll('.span').length")
        started = time.monotonic()
        for _ in range(4):
            browser.evaluate(f"{section}.querySelector('[aria-label=\"Zoom in\"]').click()")
        found["seconds_to_zoom"] = round(time.monotonic() - started, 2)
        expect("zoom shows no less", browser.evaluate(
            f"{section}.querySelectorAll('.span').length") >= spans)
        expect("the focus stays on a span", browser.evaluate(f"{active}.className") == "span")
        if pictures:
            browser.screenshot(pictures / "zoom.png")
        for _ in range(4):
            browser.evaluate(f"{section}.querySelector('[aria-label=\"Zoom out\"]').click()")

        nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
        roles = {}
        for node in nodes:
            role = node.get("role", {}).get("value")
            if not node.get("ignored"):
                roles[role] = roles.get(role, 0) + 1
                name = node.get("name", {}).get("value", "")
                if role in ("gridcell", "button", "link", "grid", "region", "table", "Video"):
                    expect(f"a {role} has a name", name.strip())
        found["accessible"] = {role: roles.get(role, 0) for role in
                               ["heading", "grid", "row", "rowheader", "gridcell", "table", "caption",
                                "columnheader", "button", "link"]}

    found["people_in_graphs"] = browser.evaluate("document.querySelectorAll('.company g').length")
    if found["people_in_graphs"]:
        check_graph(browser, expect, pictures)

    expect("nothing is wider than a phone", phone(browser))
    problems = [e["params"].get("entry", e["params"]) for e in browser.events
                if e["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")]
    # Sources without the video are not the page's fault.
    problems = [p for p in problems if p.get("source") != "network"]
    expect(f"the console has {problems}", not problems)
    expect("no dialog was opened", not any("javascriptDialog" in e["method"] for e in browser.events))
    found["wrong"] = wrong
    return found


def check_graph(browser, expect, pictures):
    """The first graph of who was with whom: with the mouse, the keyboard, and for a screen reader."""
    graph = "document.querySelector('.company')"
    browser.evaluate(f"{graph}.scrollIntoView({{block: 'center'}})")
    time.sleep(0.3)
    expect("the graph has a name", browser.evaluate(f"{graph}.ariaLabel.includes('together')"))
    expect("names in the graph lie apart", browser.evaluate(
        "(() => { const boxes = [..." + graph + ".querySelectorAll('g text')]"
        ".map(text => text.getBoundingClientRect());"
        " return boxes.every((a, i) => boxes.slice(i + 1).every(b => a.right <= b.left || b.right <= a.left"
        " || a.bottom <= b.top || b.bottom <= a.top)); })()"))
    x, y = browser.evaluate(f"(() => {{ const b = {graph}.querySelector('g circle').getBoundingClientRect();"
                            " return [b.x + b.width / 2, b.y + b.height / 2]; })()")
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    expect("pointing at somebody shows their lines", browser.wait(
        f"{graph}.classList.contains('picking') && {graph}.querySelector('path.picked') !== null", 3))
    if pictures:
        browser.screenshot(pictures / "company.png")
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    expect("then all are shown again", browser.wait(f"!{graph}.classList.contains('picking')", 3))
    details = f"{graph}.closest('section').querySelector('details')"
    browser.evaluate(f"{details}.querySelector('summary').focus()")
    browser.key("Enter")
    expect("Enter opens the table", browser.wait(f"{details}.open", 3))
    lines = browser.evaluate(f"{graph}.querySelectorAll('path').length")
    rows = browser.evaluate(f"{details}.querySelectorAll('tbody tr').length")
    expect(f"the table has {rows} rows for {lines} lines", rows == lines)


def phone(browser):
    browser.size(390, 844)
    time.sleep(0.3)
    fits = browser.evaluate("document.documentElement.scrollWidth <= 390")
    browser.size(1400, 1000)
    return fits


def look(browser, pictures):
    """Screenshots of the whole page, with a height of up to 4000 pixels."""
    for scheme, width in [("light", 1400), ("dark", 1400), ("light", 390)]:
        browser.scheme(scheme)
        browser.size(width, 900)
        browser.evaluate("scrollTo(0, 0)")
        time.sleep(0.3)
        height = browser.evaluate("document.documentElement.scrollHeight")
        browser.size(width, min(height, 4000))
        time.sleep(1)
        browser.screenshot(pictures / f"{scheme}-{width}.png")


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not program:
        print("no Chromium on the PATH", file=sys.stderr)
        sys.exit(77)
    pictures = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, profile)
        try:
            browser.attach()
            found = check(browser, pathlib.Path(sys.argv[1]), pictures)
            if pictures:
                look(browser, pictures)
        finally:
            browser.process.terminate()
            browser.process.wait()
    print(json.dumps(found, indent=1, ensure_ascii=False))
    sys.exit(1 if found["wrong"] else 0)


main()
