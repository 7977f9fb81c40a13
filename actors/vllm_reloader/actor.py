"""The VllmReloader: a plug-in that hands each committed adapter to a running vLLM server, and sees that it answers.

Guarantees:
    * Only the newest adapter matters: what was overtaken while the server loaded is never loaded.
    * An adapter is handed over only to a server of the base it grew on. After a night it says with which model the
      server is to be started, and goes on by itself when it is.
    * What the server was given stays on disk while it is served, whatever retention deletes (``spool``).
    * A server that is down, restarted or slow costs nobody anything; it is looked at again and again.
"""

from __future__ import annotations

import os
import string
from functools import partial
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from actors.vllm_reloader import spool
from actors.vllm_reloader.server import NIGHT, Offer, Outcome, Server
from actors.vllm_reloader.spool import Adapter, NotCopied
from messages import (
    BatchTrained,
    GenerationCommitted,
    Message,
    NightFinished,
    NightStarted,
    PluginNoted,
    SpaceGranted,
    SpaceNeeded,
    StateWanted,
)
from runtime import Actor, AskFailed, OperatorError, durable, every, on

ASK_SECONDS = 60.0
CODES = {"down": "NF-PLUGIN-010", "off": "NF-PLUGIN-011", "misfit": "NF-PLUGIN-012", "refused": "NF-PLUGIN-013"}
HINTS = {
    "down": "it is tried again by itself",
    "off": "start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment",
    "refused": "see its own log; it is tried again by itself",
}


class VllmReloaderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[plugins.NAME]`` with ``actor = "vllm_reloader"``.

    Attributes:
        url: of the server, without a key in it.
        lora_name: what an adapter is called there; ``{generation}`` stands for its number.
        every: ``generation``: each commit; ``batch``: when a file is learnt; ``night``: what each night folds in.
        api_key_env: the environment variable that holds the server's key.
        timeout_seconds: of loading, and of the one-token answer that proves it.
        look_every_seconds: how often it looks whether the server still has it, and tries again what failed.
        keep: adapters that stay loaded, the newest among them.
        server_folder: how the server sees the spool, ``HOME/plugins/NAME/adapters``, if it sees it elsewhere.
        served_night: the night whose model is served, ``pristine``, or ``auto``: by the name of the model's folder.
    """

    url: str = "http://127.0.0.1:8000"
    lora_name: str = "nightfold-{generation}"
    every: Literal["generation", "batch", "night"] = "generation"
    api_key_env: str = ""
    timeout_seconds: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    look_every_seconds: Annotated[float, Meta(ge=1, le=86_400)] = 30.0
    keep: Annotated[int, Meta(ge=1, le=100)] = 1
    server_folder: str = ""
    served_night: str = "auto"

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError('url: expected the server\'s address, as in "http://127.0.0.1:8000"')
        if parts.username or parts.password or parts.query:
            raise ValueError("url: a key does not belong here, where it would be shown; name a variable in api_key_env")
        if any(field not in (None, "generation") for _, field, _, _ in string.Formatter().parse(self.lora_name)):
            raise ValueError("lora_name: only {generation} may stand in it")
        if self.served_night not in ("auto", "pristine") and not NIGHT.fullmatch(self.served_night):
            raise ValueError('served_night: expected "auto", "pristine", or a night such as "20261123T030000"')


class LookAtState(Message, frozen=True):
    """The plug-in has just started: which generation is in force?"""


class HandOver(Message, frozen=True):
    """Bring the server up to date."""


class VllmReloader(Actor):
    """See the module."""

    settings: VllmReloaderSettings

    async def on_start(self) -> None:
        self._spool = f"{self.name.replace('.', '/')}/adapters"
        self._newest = ""
        self._wanted = ""
        self._adapter: Adapter | None = None
        self._proven = False
        self._held: tuple[str, ...] | None = None
        self._told = ""
        self._posted = False
        if not await self.blocking(self._key_is_there):
            raise OperatorError(
                "NF-PLUGIN-014",
                f"the environment variable {self.settings.api_key_env}, named in api_key_env, holds no key",
                hint="set it where the daemon is started",
            )
        self.post(LookAtState())

    def _key_is_there(self) -> bool:
        return not self.settings.api_key_env or self._key() != ""

    def _key(self) -> str:
        """Read when it is used, so that no trace and no error ever has it."""
        key = os.environ.get(self.settings.api_key_env, "").strip() if self.settings.api_key_env else ""
        return key if key.isascii() and key.isprintable() else ""

    # What the server should have.

    @on
    async def look_at_state(self, _: LookAtState) -> None:
        """What was learnt before this start is worth serving, too."""
        try:
            state = await self.ask(StateWanted(only_look=True), timeout=ASK_SECONDS)
        except AskFailed:
            return  # the next commit tells
        if not self._newest and state.generation and state.state.adapter_step:
            self._newest = state.path
            if self.settings.every != "night":
                self._want(state.path)

    @on
    async def committed(self, done: GenerationCommitted) -> None:
        """A commit of a fresh adapter teaches the server nothing, and is no newest one to go back to."""
        if done.adapter_step == 0:
            return
        self._newest = done.path
        if self.settings.every == "generation":
            self._want(done.path)

    @on
    async def trained(self, _: BatchTrained) -> None:
        """Said when the commit that holds it is there."""
        if self.settings.every == "batch" and self._newest:
            self._want(self._newest)

    @on
    async def night_began(self, _: NightStarted) -> None:
        """Nothing is learnt until it is over: this is what the day came to."""
        if self.settings.every == "night" and self._newest:
            self._want(self._newest)

    @on
    async def night_done(self, night: NightFinished) -> None:
        """The base has changed under the next adapter."""
        path = self.disk.real_path(night.model_path)
        await self._note(f"night {night.night} made a new base: start the vLLM server anew with {path}")

    def _want(self, path: str) -> None:
        if path != self._wanted:
            self._wanted, self._adapter, self._proven = path, None, False
        self._hand_over_soon()

    def _hand_over_soon(self) -> None:
        if not self._posted:
            self._posted = True
            self.post(HandOver())

    # How it gets it.

    @every("look_every_seconds")
    async def look(self) -> None:
        """A server that was restarted has forgotten its adapters."""
        if self._wanted:
            self._hand_over_soon()

    @on
    async def hand_over(self, _: HandOver) -> None:
        """The newest that is wanted now, whatever was wanted when this was posted."""
        self._posted = False
        path = self._wanted
        adapter = self._adapter or await self._copied(path)
        if adapter is None:
            return
        self._adapter = adapter
        offer = Offer(
            name=self.settings.lora_name.format(generation=adapter.generation),
            spool=(self.settings.server_folder or str(self.disk.real_path(self._spool))).rstrip("/"),
            folder=adapter.folder,
            base=adapter.base,
            keep=self.settings.keep,
            proven=self._proven,
            served_night=self.settings.served_night,
        )
        outcome = await self.blocking(partial(self._offer, offer))
        self._proven = outcome.state == "served"
        if outcome.state in ("served", "misfit"):
            self._held = outcome.ours
        await self._tell(outcome, offer)
        wanted = (adapter.folder, *(self._held or ()))
        known = self._held is not None
        await self.blocking(lambda: spool.prune(self.disk, self._spool, wanted, 0 if known else self.settings.keep + 1))

    def _offer(self, offer: Offer) -> Outcome:
        return Server(self.settings.url, self._key(), self.settings.timeout_seconds).hand_over(offer)

    async def _copied(self, path: str) -> Adapter | None:
        """A copy of its own, if there is room for it."""
        size = await self.blocking(lambda: durable.size_of(self.disk, path) if self.disk.stat(path) else 0)
        if size:
            try:
                room = await self.ask(SpaceNeeded(purpose="a copy for the vLLM server", need_bytes=size), timeout=30.0)
            except AskFailed:
                return None  # looked at again
            if not isinstance(room, SpaceGranted):
                await self._trouble("disk", f"no room for a copy of {path}", "NF-DISK-001", "it waits for free space")
                return None
        copied = await self.blocking(lambda: spool.copy(self.disk, path, self._spool))
        if isinstance(copied, NotCopied):
            if not copied.gone:  # what is gone has a successor, which was told or will be
                await self._trouble("copy", copied.why, "NF-PLUGIN-013", "see: nightfold doctor HOME")
            return None
        return copied

    # What a person hears of it.

    async def _tell(self, outcome: Outcome, offer: Offer) -> None:
        if outcome.state == "served":
            if outcome.news or self._told:
                await self._note(f"{offer.name} is served by {self.settings.url}")
            self._told = ""
            return
        what = f"{self.settings.url} does not serve {offer.name}: {outcome.why}"
        hint = HINTS.get(outcome.state, "")
        if outcome.state == "misfit":
            model = f"consolidated_models/{offer.base}" if offer.base else "the model that this home began with"
            hint = f"start the server anew with {model}; the adapter is handed over by itself then"
        await self._trouble(f"{outcome.state} {offer.base}", what, CODES[outcome.state], hint)

    async def _trouble(self, key: str, what: str, code: str, hint: str) -> None:
        """Once, until something else is the matter or all is well again."""
        if key != self._told:
            self._told = key
            await self.send(PluginNoted(plugin=self.name, what=what, code=code, hint=hint))

    async def _note(self, what: str) -> None:
        await self.send(PluginNoted(plugin=self.name, what=what))
