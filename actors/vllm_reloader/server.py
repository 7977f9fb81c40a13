"""The vLLM server as the plug-in speaks to it: list, load, ask, unload, and what became of it as a value.

Adapters are loaded under a new name each, and the old one is unloaded when the new one has answered: replacing one
under its name leaves answers that were cached for the old weights. Only a name without ``{generation}`` is replaced in
place.
Every function here is synchronous and waits for the network; it belongs into a blocking job.
"""

from __future__ import annotations

import http.client
import json
import re
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

NIGHT = re.compile(r"\d{8}T\d{6}")
"""What the folder of a night's merged model is called."""
LIST_SECONDS = 10.0
WORDS_SHOWN = 300

State = Literal["served", "down", "off", "misfit", "refused"]


class Outcome(msgspec.Struct, frozen=True):
    """What became of one attempt. ``why`` is for a person; ``news``: it was loaded just now; ``ours``: what the server
    holds of the spool, as folder names."""

    state: State
    why: str = ""
    news: bool = False
    ours: tuple[str, ...] = ()


class Offer(msgspec.Struct, frozen=True):
    """An adapter for a server. ``spool`` is the folder as the server sees it; ``served_night``: ``auto`` or a name."""

    name: str
    spool: str
    folder: str
    base: str
    keep: int
    proven: bool
    served_night: str

    @property
    def path(self) -> str:
        """Where the server finds it."""
        return f"{self.spool}/{self.folder}"


class _Refusal(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, words: str, *, no_such_route: bool) -> None:
        super().__init__(words)
        self.status = status
        self.words = words
        self.no_such_route = no_such_route


class _Card(msgspec.Struct, frozen=True):
    id: str
    root: str | None = None
    parent: str | None = None


class _Cards(msgspec.Struct, frozen=True):
    data: list[_Card]


class Server:
    """One server. ``key`` is sent and never said."""

    def __init__(self, url: str, key: str, timeout_seconds: float) -> None:
        self._url = urlsplit(url)
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._timeout = timeout_seconds

    def hand_over(self, offer: Offer) -> Outcome:
        """Load the adapter unless it is loaded, see that it answers, unload older ones."""
        try:
            return self._hand_over(offer)
        except _Refusal as refusal:
            if refusal.no_such_route:
                return Outcome("off", "it was started without loading of adapters at run time")
            return Outcome("refused", f"it answered {refusal.status}: {refusal.words}")
        except (OSError, http.client.HTTPException) as error:
            return Outcome("down", str(error) or type(error).__name__)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Outcome("refused", f"its answer is none of vLLM's: {error}")

    def _hand_over(self, offer: Offer) -> Outcome:
        cards = self._cards()
        served = self._base_of(cards) if offer.served_night == "auto" else offer.served_night.removeprefix("pristine")
        if served != offer.base:
            told = [f"the night {night}" if night else "the pristine base" for night in (offer.base, served)]
            return Outcome(
                "misfit", f"the adapter stands on {told[0]}, and {told[1]} is served", ours=_ours(cards, offer)
            )
        found = next((card for card in cards if card.id == offer.name), None)
        loaded = found is not None and found.root == offer.path
        if loaded and offer.proven:
            return Outcome("served", ours=_ours(cards, offer))
        if not loaded:
            self._load(offer, in_place=found is not None)
        cards = self._cards()
        if not any(card.id == offer.name and card.root == offer.path for card in cards):
            return Outcome("refused", "it took the adapter and does not list it", ours=_ours(cards, offer))
        asked = {"model": offer.name, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
        answer = self._call("POST", "/v1/completions", asked)
        if not (isinstance(answer, dict) and answer.get("choices")):
            return Outcome("refused", "it took the adapter and does not answer with it", ours=_ours(cards, offer))
        self._unload_older(offer, cards)
        return Outcome("served", news=True, ours=_ours(self._cards(), offer))

    @staticmethod
    def _base_of(cards: list[_Card]) -> str:
        """The night whose model is served, read off its folder's name; ``""`` for any other model."""
        for card in cards:
            last = (card.root or "").rstrip("/").rpartition("/")[2]
            if not card.parent:
                return last if NIGHT.fullmatch(last) else ""
        return ""

    def _load(self, offer: Offer, *, in_place: bool) -> None:
        wish: dict[str, Any] = {"lora_name": offer.name, "lora_path": offer.path}
        try:
            self._call("POST", "/v1/load_lora_adapter", wish | ({"load_inplace": True} if in_place else {}))
        except _Refusal as refusal:
            # A server too old to know load_inplace passes over it and says that the name is taken.
            if refusal.status != 400 or "already been loaded" not in refusal.words:
                raise
            self._call("POST", "/v1/unload_lora_adapter", {"lora_name": offer.name})
            self._call("POST", "/v1/load_lora_adapter", wish)

    def _unload_older(self, offer: Offer, cards: list[_Card]) -> None:
        older = sorted((card.root or "", card.id) for card in cards if _is_ours(card, offer) and card.id != offer.name)
        for _, name in older[: max(0, len(older) - offer.keep + 1)]:
            try:
                self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name})
            except _Refusal as refusal:
                if refusal.status != 404:  # somebody else unloaded it
                    raise

    def _cards(self) -> list[_Card]:
        return msgspec.convert(self._call("GET", "/v1/models", None), _Cards).data

    def _call(self, method: str, path: str, body: object) -> Any:
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        seconds = self._timeout if method == "POST" else min(LIST_SECONDS, self._timeout)
        connection = kind(self._url.hostname or "", self._url.port, timeout=seconds)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, self._url.path.rstrip("/") + path, data, self._headers)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= 300:
            raise _refusal(response.status, answer)
        # Load and unload answer with a plain sentence.
        return msgspec.json.decode(answer) if answer[:1] in (b"{", b"[") else answer.decode()


def _refusal(status: int, answer: bytes) -> _Refusal:
    words, no_such_route = answer.decode(errors="replace"), False
    try:
        found = json.loads(answer)
    except ValueError:
        found = None
    if isinstance(found, dict):
        no_such_route = status == 404 and found.get("detail") == "Not Found"
        inner = found.get("error") if isinstance(found.get("error"), dict) else found
        words = str(inner.get("message") or inner.get("detail") or words) if isinstance(inner, dict) else words
    return _Refusal(status, " ".join(words.split())[:WORDS_SHOWN], no_such_route=no_such_route)


def _is_ours(card: _Card, offer: Offer) -> bool:
    return bool(card.parent) and (card.root or "").startswith(offer.spool + "/")


def _ours(cards: list[_Card], offer: Offer) -> tuple[str, ...]:
    return tuple((card.root or "").rpartition("/")[2] for card in cards if _is_ours(card, offer))
