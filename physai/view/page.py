"""The page: one HTML file that plays a recording and asks for nothing, or shows a session that runs."""

from __future__ import annotations

import base64
import html
import json
from importlib.resources import files
from typing import Any

# Whatever a page should want to load, the browser refuses: scripts are inline or in the import map, and that is all.
POLICY = "default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline'; img-src data:"
LIVE_POLICY = f"{POLICY}; connect-src 'self'"  # of a page that is told by its server what happens
MODULES = {"three": "three.module.min.js", "three/OrbitControls": "OrbitControls.js"} | {
    f"viewer/{name}": f"{name}.js" for name in ("episodes", "plots", "remote", "scene")
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<script type="importmap">{imports}</script>
</head>
<body>
<script type="application/json" id="recording">{recording}</script>
<script type="module">{viewer}</script>
</body>
</html>
"""


def page(recording: dict[str, Any]) -> str:
    """Returns the page of a recording of `physai.view.capture`, or of a session that runs (``live``)."""
    sources = {name: base64.b64encode(_asset(file).encode()).decode() for name, file in MODULES.items()}
    imports = {"imports": {name: f"data:text/javascript;base64,{source}" for name, source in sources.items()}}
    policy = LIVE_POLICY if recording.get("live") else POLICY
    return PAGE.format(
        policy=html.escape(policy), title=html.escape(f"{recording['task']}, {recording['words']}"),
        style=_asset("viewer.css"), viewer=_asset("viewer.js"), imports=json.dumps(imports),
        recording=json.dumps(recording, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
    )  # fmt: skip


def _asset(name: str) -> str:
    return (files("physai_assets") / "web" / name).read_text(encoding="utf-8")
