"""A server on loopback that answers about adapters as vLLM does: the same routes, statuses, bodies and sentences."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

BASE = "tiny"


class FakeVllm:
    """``loaded``: name -> path. ``calls``: what was asked, in order."""

    def __init__(
        self,
        root: str,
        *,
        port: int = 0,
        updating: bool = True,
        key: str = "",
        knows_in_place: bool = True,
        folder: Path | None = None,
        seen_as: str = "",
    ) -> None:
        self.root = root
        self.updating = updating
        self.key = key
        self.knows_in_place = knows_in_place
        self.folder, self.seen_as = folder, seen_as
        self.loaded: dict[str, str] = {}
        self.calls: list[tuple[str, str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.mute = False
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(None)

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, body: dict[str, Any] | None) -> None:
                allowed = not fake.key or self.headers.get("Authorization") == f"Bearer {fake.key}"
                status, answer = fake.answer(self.path, body) if allowed else (401, {"error": "Unauthorized"})
                data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """A test's output is its own."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def shut(self) -> None:
        """Connections are refused from now on."""
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def count(self, route: str) -> int:
        return sum(path == f"/v1/{route}" for path, _ in self.calls)

    def answer(self, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        name = str((body or {}).get("lora_name", (body or {}).get("model", "")))
        self.calls.append((path, name))
        match path:
            case "/v1/models":
                return 200, {"object": "list", "data": self._cards()}
            case "/v1/completions" if name in (*self.loaded, BASE):
                return 200, {"object": "text_completion", "choices": [] if self.mute else [{"text": "."}]}
            case "/v1/completions":
                return 404, _error(f"The model `{name}` does not exist.", "NotFoundError", 404)
            case "/v1/load_lora_adapter" if self.updating and body:
                return self._load(name, body)
            case "/v1/unload_lora_adapter" if self.updating:
                if name not in self.loaded:
                    return 404, _error(f"The lora adapter '{name}' cannot be found.", "NotFoundError", 404)
                del self.loaded[name]
                return 200, f"Success: LoRA adapter '{name}' removed successfully."
        return 404, {"detail": "Not Found"}

    def _load(self, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        path = body["lora_path"]
        if name in self.loaded and not (body.get("load_inplace") and self.knows_in_place):
            words = f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
            return 400, _error(words + "'load_inplace' to True.", "InvalidUserInput", 400)
        self.gate.wait(20)
        here = Path(path) if self.folder is None else self.folder / path.removeprefix(self.seen_as).lstrip("/")
        if not (here / "adapter_config.json").is_file():
            return 404, _error(f"Loading lora {name} failed: No adapter found for {path}", "NotFoundError", 404)
        if json.loads((here / "adapter_config.json").read_bytes())["r"] > 16:
            return 500, _error("LoRA rank 64 is greater than max_lora_rank 16.", "InternalServerError", 500)
        self.loaded[name] = path
        return 200, f"Success: LoRA adapter '{name}' added successfully."

    def _cards(self) -> list[dict[str, Any]]:
        cards = [{"id": BASE, "object": "model", "root": self.root, "parent": None, "max_model_len": 128}]
        return cards + [
            {"id": name, "object": "model", "root": path, "parent": BASE} for name, path in self.loaded.items()
        ]


def _error(message: str, kind: str, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
