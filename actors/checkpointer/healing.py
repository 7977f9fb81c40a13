"""Damage is found before it is needed, and healed from what is sound. Synchronous; each call is one short I/O job.

Guarantees:
    * A piece of the scrub reads about as many bytes as it is allowed, and never waits for anything but the disk.
    * What is healed is proven: by the manifest that HEAD or the damaged folder itself has of it, and read back.
    * Nothing is written over. What is sound gets a name of its own, HEAD is replaced, and then the damaged folder is
      set aside: whenever the power goes, HEAD names the one or the other, and the next round goes on from there.
What has no other copy is told as what it is, and left where it lies, for whoever restores it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

import msgspec

from actors.checkpointer.head import (
    DELTAS,
    HEAD_PATH,
    SET_ASIDE,
    SNAPSHOTS,
    Head,
    Kept,
    Manifest,
    decode,
    generation_path,
)
from actors.checkpointer.scrub import Scrub, Tally, Thing, things_of
from actors.checkpointer.store import ADAPTER_FILES, Store
from actors.checkpointer.verification import Damaged, check_counters, read_back, reading, verify
from messages import Delta, LearningState, StateInForce
from runtime import durable
from runtime.disk import DiskPort
from runtime.errors import OperatorError
from runtime.manifest import MANIFEST, FileEntry, seal_holds, sealed

NO_COPY = (
    "nothing: there is no other copy. The merged model in force is whole, but no night can be folded from the pristine "
    "base until state/deltas/ is restored from a backup"
)


class Damage(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        instead: what stands in its place now.
        in_force: the generation in force, if this is what is damaged: it lives on only in the memory of who trains.
        news: it was not told before. What cannot be healed is found again in every round.
    """

    what: str
    why: str
    instead: str
    healed: bool = True
    in_force: int = 0
    news: bool = True


class Found(msgspec.Struct, frozen=True):
    """What one piece came to. ``finished``: the round's tally, if this piece ended it; ``next_at``: the next is due."""

    damage: Damage | None = None
    sound_again: str = ""
    finished: Tally | None = None
    seconds: float = 0.0
    next_at: float = 0.0


class Healer:
    """Scrubs and heals for one Store. What it knows of the round lives as long as it does."""

    def __init__(self, disk: DiskPort, store: Store, *, round_every_seconds: float) -> None:
        self._disk = disk
        self._store = store
        self._scrub = Scrub(round_every_seconds)
        self._pieces: Generator[int, None, None] | None = None
        self._unhealed: dict[str, str] = {}

    def piece(self, size_bytes: int, now: float) -> Found:
        """Verify about so much more of one thing, and heal it if it is damaged. ``OSError``: the disk refused."""
        scrub = self._scrub
        if not scrub.under_way():
            scrub.begin(things_of(self._store.head, self._snapshots()), now)
        while (thing := scrub.next()) is not None and self._pieces is None and not self._is_named(thing):
            scrub.passed_over()
        if thing is None:
            return self._found(now)
        if self._pieces is None:
            self._pieces = self._verifying(thing)
        damage, again = None, ""
        try:
            for read in self._pieces:
                scrub.read(read)
                size_bytes -= read
                if size_bytes <= 0:
                    return Found()
        except Damaged as error:
            if self._is_named(thing):  # else it was half read when retention let go of it
                damage = self._noted(self._healed(thing, str(error)))
                scrub.done(damaged=True)
            else:
                scrub.passed_over()
        else:
            scrub.done(damaged=False)
            again = thing.path if self._unhealed.pop(thing.path, None) is not None else ""
        self._pieces = None
        return self._found(now, damage, again)

    def _found(self, now: float, damage: Damage | None = None, again: str = "") -> Found:
        scrub = self._scrub
        if scrub.under_way():
            return Found(damage, again)
        return Found(damage, again, scrub.tally, scrub.seconds(now), scrub.next_at)

    def ledger(self) -> tuple[Damage, ...]:
        """Verify every delta in force, healing what can be; what is damaged, healed or not.

        Raises:
            OSError: an earlier healing shows and is not durable, and the disk still refuses to make it so.
        """
        self._store.make_head_durable()
        head = self._store.head
        return self.deltas(head.deltas_in_force() if head is not None else ())

    def deltas(self, deltas: Iterable[Delta]) -> tuple[Damage, ...]:
        """Verify these, healing what can be; what is damaged, healed or not."""
        found: list[Damage] = []
        for delta in deltas:
            try:
                verify(self._disk, delta.path, delta.digest)
            except Damaged as error:
                found.append(self._noted(self._heal_delta(delta, str(error))))
        return tuple(found)

    def look(self) -> tuple[Damage | None, StateInForce]:
        """What is in force; if it is damaged, as far as HEAD can say. Nothing is gone back to."""
        try:
            return None, self._store.in_force()
        except Damaged as error:
            head = self._store.head
            assert head is not None, "what is in force is damaged"
            force = StateInForce(
                generation=head.generation,
                path=head.generation_path,
                state=LearningState(),
                ledger=head.deltas_in_force(),
                model_path=head.model_path,
                models_needed=head.models_needed(),
                damage=str(error),
            )
            return self._condemned(head, str(error)), force

    def _condemned(self, head: Head, why: str) -> Damage:
        """The generation in force is damaged: the next commit takes its place, and then it is set aside."""
        news = self._store.condemn(head.generation_path)
        instead = "what is in memory is committed anew"
        return Damage(head.generation_path, why, instead, in_force=head.generation, news=news)

    def _noted(self, damage: Damage) -> Damage:
        """The same, knowing whether it is news."""
        known = self._unhealed.get(damage.what) == damage.instead
        if damage.healed:
            self._unhealed.pop(damage.what, None)
        else:
            self._unhealed[damage.what] = damage.instead
        return msgspec.structs.replace(damage, news=damage.news and not known)

    # Looking.

    def _snapshots(self) -> list[str]:
        if self._disk.stat(SNAPSHOTS) is None:
            return []
        names = [name for name in self._disk.listdir(SNAPSHOTS) if not name.startswith(".")]
        return [f"{SNAPSHOTS}/{name}" for name in reversed(names)]

    def _is_named(self, thing: Thing) -> bool:
        """Is it still what HEAD names, or a snapshot that is there?"""
        if thing.kind == "snapshot":
            return self._disk.stat(thing.path) is not None
        return thing in things_of(self._store.head, ())

    def _verifying(self, thing: Thing) -> Generator[int, None, None]:
        try:
            yield from self._reading(thing)
        except OperatorError as error:  # a schema of the future in what this very daemon wrote
            raise Damaged(error.what) from error

    def _reading(self, thing: Thing) -> Generator[int, None, None]:
        if thing.kind == "head":
            yield from self._reading_head()
            return
        manifest = yield from reading(self._disk, thing.path, thing.digest)
        if thing.kind == "generation":
            head = self._store.head
            kept = next((one for one in head.kept if one.path == thing.path), None) if head is not None else None
            check_counters(self._disk, thing.path, manifest, kept, head.kept if head is not None else ())
        elif thing.kind == "snapshot":
            check_counters(self._disk, thing.path, manifest)

    def _reading_head(self) -> Generator[int, None, None]:
        try:
            raw = self._disk.read(HEAD_PATH)
            yield len(raw)
            found = decode(raw, Head, HEAD_PATH)
        except (OSError, msgspec.MsgspecError) as error:
            raise Damaged(f"{HEAD_PATH}: {error}") from error
        memory = self._store.head
        if memory is None or not seal_holds(raw) or _unsealed(found) != _unsealed(memory):
            raise Damaged(f"{HEAD_PATH} is not as it was written")

    # Healing.

    def _healed(self, thing: Thing, why: str) -> Damage:
        head = self._store.head
        try:
            match thing.kind:
                case "head":
                    self._store.write_head_again()
                    return Damage(thing.path, why, "written anew from memory")
                case "snapshot":
                    pinned = self._store.let_go_of_snapshot(thing.path)
                    aside = "set aside, and its pin with it" if pinned else "set aside"
                    return Damage(thing.path, why, f"{aside}; the next commit on that date makes another")
                case "delta":
                    assert head is not None, "HEAD names this delta"
                    return self._heal_delta(next(one for one in head.deltas if one.path == thing.path), why)
            assert head is not None, "HEAD keeps this generation"
            if thing.path == head.generation_path:
                return self._condemned(head, why)
            self._store.let_go(thing.path)
            return Damage(thing.path, why, f"set aside; {head.generation_path} is in force and untouched by this")
        except OSError as error:
            return Damage(thing.path, why, f"the disk refused to let it be healed ({error}); tried again", healed=False)

    def _heal_delta(self, delta: Delta, why: str) -> Damage:
        """Another sound copy takes its place under a name of its own."""
        try:
            for manifest, raw in self._proofs(delta):
                files = self._proven(delta, manifest)
                if files is not None:
                    return Damage(delta.path, why, self._exchange(delta, files, raw))
        except OSError as error:
            return Damage(delta.path, why, f"the disk refused to let it be healed ({error}); tried again", healed=False)
        return Damage(delta.path, why, NO_COPY, healed=False)

    def _proofs(self, delta: Delta) -> Iterator[tuple[Manifest, bytes]]:
        """Manifests that say what its bytes must be, each with the bytes of the manifest that the healed delta gets."""
        own = self._manifest(delta.path, delta.digest)
        if own is not None:
            yield own
            return  # no other knows better
        for folder, digest in self._kin(delta):
            try:
                manifest = verify(self._disk, folder, digest)
            except (Damaged, OperatorError):
                continue
            if (manifest.generation, manifest.global_step) != (delta.generation, delta.global_step):
                continue
            files = {name: manifest.files[name] for name in ADAPTER_FILES if name in manifest.files}
            new = msgspec.structs.replace(manifest, files=files, why=f"night {delta.night}")
            yield new, sealed(new)

    def _manifest(self, folder: str, digest: str) -> tuple[Manifest, bytes] | None:
        path = posixpath.join(folder, MANIFEST)
        try:
            raw = self._disk.read(path)
        except OSError:
            return None
        return (decode(raw, Manifest, path), raw) if durable.digest_of_bytes(raw) == digest else None

    def _proven(self, delta: Delta, manifest: Manifest) -> Mapping[str, bytes] | None:
        """Each file from wherever its very bytes still lie; the damaged folder has most of them."""
        places = [delta.path, *(folder for folder, _ in self._kin(delta))]
        found: dict[str, bytes] = {}
        for name, entry in manifest.files.items():
            data = next(filter(None, (self._bytes_of(f"{place}/{name}", entry) for place in places)), None)
            if data is None:
                return None
            found[name] = data
        return found

    def _bytes_of(self, path: str, entry: FileEntry) -> bytes | None:
        try:
            found = self._disk.stat(path)
            data = self._disk.read(path) if found is not None and found.size == entry.size else b""
        except OSError:
            return None
        return data if durable.digest_of_bytes(data) == entry.digest else None

    def _kin(self, delta: Delta) -> Sequence[tuple[str, str]]:
        """Folders that may hold the same adapter, with the digest HEAD has of their manifest, if it has one: the
        generation that was folded, snapshots, and what was set aside."""
        head = self._store.head
        kept: Sequence[Kept] = head.kept if head is not None else ()
        aside = self._disk.listdir(SET_ASIDE) if self._disk.stat(SET_ASIDE) is not None else []
        folded = generation_path(delta.generation)
        return (
            (folded, next((one.manifest for one in kept if one.path == folded), "")),
            *((path, "") for path in self._snapshots()),
            *((f"{SET_ASIDE}/{name}", "") for name in aside if not durable.is_leftover(name)),
        )

    def _exchange(self, delta: Delta, files: Mapping[str, bytes], manifest: bytes) -> str:
        head = self._store.head
        assert head is not None, "HEAD names this delta"
        names = {one.path for one in head.deltas}
        mine = f"{DELTAS}/{delta.night}."
        for name in self._disk.listdir(DELTAS):  # of earlier tries that HEAD did not come to name
            if f"{DELTAS}/{name}".startswith(mine) and f"{DELTAS}/{name}" not in names:
                durable.remove(self._disk, f"{DELTAS}/{name}")
        number = 2
        while f"{mine}{number}" in names or self._disk.stat(f"{mine}{number}") is not None:
            number += 1
        path, digest = f"{mine}{number}", durable.digest_of_bytes(manifest)
        durable.write_directory(self._disk, path, {**files, MANIFEST: manifest})
        read_back(self._disk, path, digest)
        self._store.exchange_delta(delta, msgspec.structs.replace(delta, path=path, digest=digest))
        return f"{path}, made anew from a sound copy"


def _unsealed(head: Head) -> Head:
    return msgspec.structs.replace(head, seal="")
