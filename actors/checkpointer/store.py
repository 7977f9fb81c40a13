"""The commit protocol: how learning gets under ``state/`` and back. Synchronous; each method is one I/O job.

Invariants:
    1. State changes by replacing HEAD, after all that it names is written, synced and read back.
    2. HEAD never names what is gone: what retention takes leaves HEAD first and the disk second.
    3. What is loaded was compared with its manifest, and the manifest with HEAD.
    4. Pristine base and deltas are never modified.
Knows nothing of training: files are bytes, state is counters.
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Collection, Mapping

import msgspec

from actors.checkpointer.head import (
    DELTAS,
    GENERATIONS,
    HEAD_PATH,
    SET_ASIDE,
    SNAPSHOTS,
    TRAINER_STATE,
    Head,
    Kept,
    Manifest,
    Night,
    PinnedSnapshot,
    decode,
    decode_state,
    generation_path,
)
from actors.checkpointer.retention import Bounds, Found, Verdict, judge, survey, trimmed
from actors.checkpointer.targets import Target, gone_back, target_of, with_pin
from actors.checkpointer.verification import (
    Damaged,
    check_chain,
    place_of,
    read_back,
    verify,
    verify_alone,
    verify_kept,
)
from messages import SCHEMA, Delta, LearningState, ModelsNeeded, StateInForce
from runtime import durable
from runtime.disk import Buffer, DiskPort
from runtime.errors import EXIT_CONFIG, OperatorError
from runtime.manifest import MANIFEST, FileEntry, encode, installed_versions, seal_holds, sealed

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


class Opened(msgspec.Struct, frozen=True):
    """What start-up found and did. ``damage``: (what, why, what is used instead)."""

    head: Head | None
    removed: tuple[str, ...]
    set_aside: tuple[str, ...]
    damage: tuple[tuple[str, str, str], ...]


class Pruned(msgspec.Struct, frozen=True):
    """What retention deleted, and what would not go.

    ``damaged``: deltas whose folded generation was spared, for theirs may be the last copy that can heal them.
    """

    deleted: tuple[str, ...]
    stuck: tuple[str, ...]
    models_needed: tuple[str, ...] = ()
    damaged: tuple[Delta, ...] = ()


def library_versions() -> Mapping[str, str]:
    """Versions of what produced the weights, for the manifest."""
    return installed_versions("nightfold", "torch", "transformers", "peft", "accelerate", "safetensors")


def _as_pinned(day: str, manifest: Manifest) -> PinnedSnapshot:
    return PinnedSnapshot(day, manifest.generation, manifest.model_path, manifest.model_digest, manifest.ledger)


class Store:
    """Everything under ``state/`` and ``snapshots/``. One instance writes; ``open`` comes first."""

    def __init__(
        self,
        disk: DiskPort,
        *,
        keep_generations: int,
        keep_snapshots: int,
        keep_nights: int,
        generations_bytes_max: int | None = None,
        snapshots_bytes_max: int | None = None,
        nights_bytes_max: int | None = None,
        set_aside_bytes_max: int | None = None,
    ) -> None:
        self._disk = disk
        self._bounds = Bounds(
            keep_generations,
            keep_snapshots,
            keep_nights,
            generations_bytes_max,
            snapshots_bytes_max,
            nights_bytes_max,
            set_aside_bytes_max,
        )
        self._head_unsynced = False
        self._condemned: tuple[str, ...] = ()
        self.head: Head | None = None

    # Start-up.

    def open(self) -> Opened:
        """Make the folders, read HEAD, verify what is in force, fall back if it is damaged, sweep what nothing reaches.

        Raises:
            OperatorError: NF-STATE-002 nothing sound is left; NF-STATE-004 written by a newer version.
        """
        for folder in ("state", GENERATIONS, DELTAS, "state/batches", SNAPSHOTS):
            durable.ensure_directory(self._disk, folder)
        damage: list[tuple[str, str, str]] = []
        self._condemned = ()
        # What is read next may be what a killed process had shown and not yet synced: nothing is built on it before.
        self._disk.fsync_dir(GENERATIONS)
        self._disk.fsync_dir("state")
        self.head = self._read_head(damage)
        if self.head is not None:
            self.head = self._sound(self.head, damage)
        elif damage or self._anything_committed():
            self.head = self._recovered(damage, None)
        removed = self._sweep_leftovers()
        set_aside = self._sweep_unreached()
        if self.head is not None:
            self._show_current_or_later()
        return Opened(self.head, removed, set_aside, tuple(damage))

    def _read_head(self, damage: list[tuple[str, str, str]]) -> Head | None:
        if self._disk.stat(HEAD_PATH) is None:
            return None
        instead = "rebuilt from the generations"
        raw = self._disk.read(HEAD_PATH)
        try:
            # The schema comes first: a newer version may seal in another way, and what it wrote is not damage.
            head = decode(raw, Head, HEAD_PATH)
        except msgspec.MsgspecError as error:
            damage.append((HEAD_PATH, str(error), instead))
            return None
        if not seal_holds(raw):
            damage.append((HEAD_PATH, "it is not as it was written", instead))
            return None
        return head

    def _sound(self, head: Head, damage: list[tuple[str, str, str]]) -> Head:
        """``head`` if what it puts in force is sound, else one that puts the newest sound generation in force."""
        wanted = [head.in_force, *(kept for kept in reversed(head.kept) if kept.generation != head.generation)]
        broken: list[Kept] = []
        for kept in wanted:
            try:
                verify_kept(self._disk, kept, head.kept)
            except Damaged as error:
                broken.append(kept)
                damage.append((kept.path, str(error), ""))
                continue
            if not broken:
                return head
            damage[:] = [(what, why, instead or kept.path) for what, why, instead in damage]
            # HEAD lets go of the damaged ones first; the sweep then sets them aside, for whoever wants to look.
            sound = tuple(kept for kept in head.kept if kept not in broken)
            return self._put_in_force(msgspec.structs.replace(head, kept=sound), kept)
        return self._recovered(damage, head)

    def _recovered(self, damage: list[tuple[str, str, str]], before: Head | None) -> Head:
        """HEAD is lost or reaches nothing sound: every sound generation is kept and the newest put in force.

        Where there is none, the newest sound snapshot becomes a generation again. HEAD alone knew what a person had
        pinned: where it is lost, all that is found beside the newest is pinned, and people let go of it.
        """
        found = [self._verified(folder, damage) for folder in self._all_generations()]
        sound = [one for one in found if one is not None]
        if not sound:
            snapshot = next(filter(None, (self._verified(folder, damage) for folder in self._all_snapshots())), None)
            sound = [self._as_generation(*snapshot)] if snapshot is not None else []
        if sound:
            folder, manifest = sound[0]
            damage[:] = [(what, why, instead or folder) for what, why, instead in damage]
            kept = tuple(self._kept(path, one, self._disk.read(posixpath.join(path, MANIFEST))) for path, one in sound)
            head = Head(SCHEMA, 0, 0, "", "", manifest.base_fingerprint, manifest.when, deltas=manifest.deltas)
            if before is None:
                kept = (kept[0], *(msgspec.structs.replace(one, pinned=True) for one in kept[1:]))
                snapshots = self._pinnable_snapshots()
            else:
                snapshots = before.snapshots
            return self._put_in_force(msgspec.structs.replace(head, kept=kept, snapshots=snapshots), kept[0])
        told = "\n  ".join(f"{what}: {why}" for what, why, _ in damage)
        raise OperatorError(
            "NF-STATE-002",
            f"no sound generation and no sound snapshot is left:\n  {told}",
            hint="nothing was deleted; restore state/ or snapshots/ from a backup, or make a new home",
            exit_code=EXIT_CONFIG,
        )

    def _verified(self, folder: str, damage: list[tuple[str, str, str]]) -> tuple[str, Manifest] | None:
        try:
            return folder, verify_alone(self._disk, folder)
        except Damaged as error:
            if all(what != folder for what, _, _ in damage):  # HEAD's own look may have told of it already
                damage.append((folder, str(error), ""))
            return None

    def _as_generation(self, snapshot: str, manifest: Manifest) -> tuple[str, Manifest]:
        path = generation_path(manifest.generation)
        if self._disk.stat(path) is not None:
            self.set_aside(path)
        durable.write_directory(self._disk, path, durable.copy_files(self._disk, snapshot))
        return path, manifest

    def _all_generations(self) -> list[str]:
        """Newest first, by number."""
        numbers = sorted((name for name in self._disk.listdir(GENERATIONS) if name.isdigit()), key=int, reverse=True)
        return [f"{GENERATIONS}/{name}" for name in numbers]

    def _all_snapshots(self) -> list[str]:
        """Newest first, by date."""
        return [f"{SNAPSHOTS}/{name}" for name in reversed(self._disk.listdir(SNAPSHOTS)) if not name.startswith(".")]

    def _pinnable_snapshots(self) -> tuple[PinnedSnapshot, ...]:
        found: list[PinnedSnapshot] = []
        for folder in reversed(self._all_snapshots()):
            with contextlib.suppress(OSError, msgspec.MsgspecError):  # one that cannot be read cannot be gone back to
                manifest = decode(self._disk.read(posixpath.join(folder, MANIFEST)), Manifest, folder)
                found.append(_as_pinned(posixpath.basename(folder), manifest))
        return tuple(found)

    def _anything_committed(self) -> bool:
        return bool(self._all_generations() or self._all_snapshots())

    def _sweep_leftovers(self) -> tuple[str, ...]:
        """Remove what interrupted protocols left. What will not go is left to ``prune``: it must not stop a start."""
        removed: list[str] = []
        for folder in (".", "state", GENERATIONS, DELTAS, SNAPSHOTS, SET_ASIDE):
            with contextlib.suppress(OSError):
                removed += durable.sweep(self._disk, folder)
        return tuple(removed)

    def _sweep_unreached(self) -> tuple[str, ...]:
        """Set aside what HEAD does not reach: not committed, no longer kept, or damaged."""
        self._forget_set_aside()
        reached = {kept.path for kept in self.head.kept} if self.head else set()
        reached |= {delta.path for delta in self.head.deltas} if self.head else set()
        set_aside: list[str] = []
        for folder in (GENERATIONS, DELTAS):
            for name in self._disk.listdir(folder):
                path = f"{folder}/{name}"
                if path not in reached and not durable.is_leftover(name):
                    self.set_aside(path)
                    set_aside.append(path)
        return tuple(set_aside)

    def set_aside(self, path: str) -> None:
        """Out of the way, for whoever wants to look."""
        durable.ensure_directory(self._disk, SET_ASIDE)
        kind = posixpath.basename(posixpath.dirname(path))
        target = f"{SET_ASIDE}/{kind}-{posixpath.basename(path)}"
        durable.remove(self._disk, target)
        durable.move_file(self._disk, path, target)

    def _forget_set_aside(self) -> None:
        """Of what earlier starts set aside, keep the newest few; what this start sets aside is kept until the next."""
        for verdict in self.verdicts():
            if verdict.kind == "set_aside" and not verdict.stays:
                with contextlib.suppress(OSError):
                    durable.remove(self._disk, verdict.path)

    # Reading.

    def in_force(self) -> StateInForce:
        """What HEAD names, verified now.

        Raises:
            Damaged: it has changed since; ``open`` heals.
        """
        self._sync_head()
        head = self.head
        if head is None:
            return StateInForce(generation=0, path="", state=LearningState(), ledger=(), model_path="")
        kept = head.in_force
        return StateInForce(
            generation=kept.generation,
            path=kept.path,
            state=verify_kept(self._disk, kept, head.kept),
            ledger=head.deltas_in_force(),
            model_path=head.model_path,
            models_needed=head.models_needed(),
            model_digest=kept.model_digest,
        )

    def models_needed(self) -> ModelsNeeded:
        """The merged models that HEAD's generations stand on, as HEAD has them."""
        if self.head is None:
            return ModelsNeeded(models=(), base_fingerprint="")
        return ModelsNeeded(models=self.head.models(), base_fingerprint=self.head.base_fingerprint)

    # Committing.

    def commit(self, files: Mapping[str, Buffer], state: LearningState, why: str, now: str) -> Kept:
        """Write a generation and put it in force. ``OSError``: the one before is still in force."""
        head = self.head or Head(SCHEMA, 0, 0, "", "", state.base_fingerprint, now)
        digest = head.in_force.model_digest if head.kept else ""
        kept = self._write_generation(head, files, state, why, now, head.model_path, head.ledger, digest)
        self.head = self._put_in_force(
            self._trimmed(msgspec.structs.replace(head, kept=(*head.kept, kept)), kept), kept
        )
        self._show_current_or_later()
        return kept

    def commit_night(
        self,
        files: Mapping[str, Buffer],
        state: LearningState,
        *,
        night: str,
        due_date: str,
        folded: int,
        model_path: str,
        now: str,
        model_digest: str = "",
    ) -> Kept:
        """The adapter of generation ``folded`` joins the ledger and the fresh adapter comes in force: one commit."""
        head = self.head
        if head is None or head.generation != folded:
            raise Damaged(f"generation {folded} is no longer in force")
        delta = self._write_delta(head, head.in_force, night, due_date, now)
        deltas = (*(known for known in head.deltas if known.night != night), delta)
        head = msgspec.structs.replace(head, deltas=deltas)
        ledger = (*head.ledger, night)
        kept = self._write_generation(head, files, state, f"night {night}", now, model_path, ledger, model_digest)
        nights = (*head.nights, Night(night, kept.generation, folded, model_path, now))
        head = msgspec.structs.replace(head, kept=(*head.kept, kept), nights=nights)
        self.head = self._put_in_force(self._trimmed(head, kept), kept)
        self._show_current_or_later()
        return kept

    def _write_delta(self, head: Head, source: Kept, night: str, due_date: str, now: str) -> Delta:
        path = f"{DELTAS}/{night}"
        durable.remove(self._disk, path)  # of an earlier try whose commit did not come
        manifest = verify(self._disk, source.path, source.manifest)
        files = {name: self._disk.read(f"{source.path}/{name}") for name in ADAPTER_FILES if name in manifest.files}
        raw = sealed(self._manifest(head, files, manifest, now, f"night {night}"))
        durable.write_directory(self._disk, path, {**files, MANIFEST: raw})
        verify(self._disk, path, durable.digest_of_bytes(raw))
        return Delta(night, path, durable.digest_of_bytes(raw), due_date, source.global_step, source.generation)

    def _manifest(self, head: Head, files: Mapping[str, Buffer], of: Manifest, now: str, why: str) -> Manifest:
        entries = {name: FileEntry(len(data), durable.digest_of_bytes(data)) for name, data in files.items()}
        return msgspec.structs.replace(of, files=entries, when=now, why=why, ledger=head.ledger, deltas=head.deltas)

    def _write_generation(
        self,
        head: Head,
        files: Mapping[str, Buffer],
        state: LearningState,
        why: str,
        now: str,
        model_path: str,
        ledger: tuple[str, ...],
        model_digest: str,
    ) -> Kept:
        number = head.next_generation
        path = generation_path(number)
        durable.remove(self._disk, path)  # of an earlier try whose commit did not come
        content = {**files, TRAINER_STATE: encode(msgspec.structs.replace(state, schema=SCHEMA))}
        manifest = Manifest(
            schema=SCHEMA,
            generation=number,
            parent=head.generation,
            when=now,
            why=why,
            global_step=state.global_step,
            adapter_id=state.adapter_id,
            adapter_step=state.adapter_step,
            base_fingerprint=state.base_fingerprint,
            model_path=model_path,
            ledger=ledger,
            deltas=head.deltas,
            files={name: FileEntry(len(data), durable.digest_of_bytes(data)) for name, data in content.items()},
            versions=library_versions(),
            model_digest=model_digest,
            cursor=place_of(state),
        )
        check_chain(path, manifest, head.kept)  # before anything is written: what is refused later would cost the steps
        raw = sealed(manifest)
        durable.write_directory(self._disk, path, {**content, MANIFEST: raw})
        read_back(self._disk, path, durable.digest_of_bytes(raw))
        last = state.cursor.batch if state.cursor else (state.unfiled[-1].batch if state.unfiled else "")
        return self._kept(path, manifest, raw, last)

    def _kept(self, path: str, manifest: Manifest, raw: bytes, last_batch: str = "") -> Kept:
        return Kept(
            generation=manifest.generation,
            path=path,
            manifest=durable.digest_of_bytes(raw),
            when=manifest.when,
            why=manifest.why,
            global_step=manifest.global_step,
            adapter_id=manifest.adapter_id,
            adapter_step=manifest.adapter_step,
            model_path=manifest.model_path,
            ledger=manifest.ledger,
            size_bytes=sum(entry.size for entry in manifest.files.values()) + len(raw),
            last_batch=last_batch,
            model_digest=manifest.model_digest,
        )

    def _put_in_force(self, head: Head, kept: Kept) -> Head:
        """The commit: one atomic replacement of HEAD."""
        new = msgspec.structs.replace(
            head,
            schema=SCHEMA,
            number=head.number + 1,
            generation=kept.generation,
            generation_path=kept.path,
            model_path=kept.model_path,
            ledger=kept.ledger,
            when=kept.when,
            kept=tuple(sorted(head.kept, key=lambda k: k.generation)),
        )
        raw = sealed(new)
        try:
            durable.write_file(self._disk, HEAD_PATH, raw)
        except OSError:
            # If only the last sync failed, HEAD already shows the new one: then its generation must not be taken for
            # rubbish and written over by the next try.
            with contextlib.suppress(OSError):
                if self._disk.read(HEAD_PATH) == raw:
                    self.head = new
                    self._head_unsynced = True
            raise
        self._head_unsynced = False
        return new

    def _sync_head(self) -> None:
        """After a failed sync HEAD shows what a power cut would take back, and the HEAD before would be in force again.

        Until that is made good nobody is told of it, and nothing that the HEAD before keeps is deleted.
        """
        if self._head_unsynced:
            self._disk.fsync_dir("state")
            self._head_unsynced = False

    def _show_current(self) -> None:
        """Point ``current_model`` at the generation in force. A convenience for people: HEAD alone is the truth."""
        assert self.head is not None, "there is something in force to show"
        found = self._disk.stat("current_model")
        if (
            found is not None
            and found.kind == "link"
            and self._disk.readlink("current_model") == self.head.generation_path
        ):
            return
        if found is None or found.kind == "link":
            durable.replace_link(self._disk, self.head.generation_path, "current_model")

    def _show_current_or_later(self) -> None:
        """What HEAD put in force is in force, shown or not; ``prune`` and the next start try again."""
        with contextlib.suppress(OSError):
            self._show_current()

    # Healing; what is damaged and what stands in for it is ``healing``'s to say.

    def make_head_durable(self) -> None:
        """What HEAD shows is what a power cut leaves."""
        self._sync_head()

    def condemn(self, path: str) -> bool:
        """A generation is damaged: the next commit lets go of it, and then it is set aside. Was that news?"""
        if path in self._condemned:
            return False
        self._condemned = (*self._condemned, path)
        return True

    def let_go(self, path: str) -> None:
        """A generation that is not in force is damaged: HEAD lets go of it now, and then it is set aside."""
        assert self.head is not None, "HEAD keeps this generation"
        self.condemn(path)
        self.head = self._put_in_force(self._without_condemned(self.head, self.head.in_force), self.head.in_force)
        self._set_condemned_aside()

    def let_go_of_snapshot(self, path: str) -> bool:
        """A snapshot is damaged: HEAD unpins it, and then it is set aside. Was it pinned?

        A pin that stayed would be taken for one on whatever gets this date next, and keep a model for nothing.
        """
        self._sync_head()
        head, day = self.head, posixpath.basename(path)
        pinned = head is not None and day in {one.day for one in head.snapshots}
        if head is not None and pinned:
            others = tuple(one for one in head.snapshots if one.day != day)
            self.head = self._put_in_force(msgspec.structs.replace(head, snapshots=others), head.in_force)
        self.set_aside(path)
        return pinned

    def exchange_delta(self, damaged: Delta, sound: Delta) -> None:
        """One replacement of HEAD names the sound copy; then the damaged one is set aside."""
        assert self.head is not None, "HEAD names this delta"
        deltas = tuple(sound if delta == damaged else delta for delta in self.head.deltas)
        self.head = self._put_in_force(msgspec.structs.replace(self.head, deltas=deltas), self.head.in_force)
        if self._disk.stat(damaged.path) is not None:
            with contextlib.suppress(OSError):  # HEAD does not name it any more: the next start sets it aside
                self.set_aside(damaged.path)

    def write_head_again(self) -> None:
        """The file is damaged, and what it said is known."""
        assert self.head is not None, "there is a HEAD"
        durable.write_file(self._disk, HEAD_PATH, sealed(self.head))
        self._head_unsynced = False

    def _without_condemned(self, head: Head, in_force: Kept) -> Head:
        gone = {one.generation for one in head.kept if one.path in self._condemned and one.path != in_force.path}
        return msgspec.structs.replace(
            head,
            kept=tuple(kept for kept in head.kept if kept.generation not in gone),
            nights=tuple(night for night in head.nights if night.generation not in gone),
        )

    def _set_condemned_aside(self) -> None:
        """What HEAD has let go of. To be called only when HEAD is durable."""
        reached = [kept.path for kept in self.head.kept] if self.head else []
        for path in self._condemned:
            if path not in reached and self._disk.stat(path) is not None:
                self.set_aside(path)
        self._condemned = tuple(path for path in self._condemned if path in reached)

    # Going back, and what must stay for it.

    def put_back(self, name: str, now: str = "") -> Kept:
        """Put a kept generation, the state right after a night, or a snapshot's state in force; see ``targets``.

        A snapshot whose generation is no longer kept becomes one again, under a new number.

        Raises:
            OperatorError: NF-STATE-003 it is not kept; Damaged: it is kept and not sound.
        """
        self._sync_head()
        head, target = target_of(self.head, self._days(), name)
        wanted = target.kept or self._still_kept(head, f"{SNAPSHOTS}/{name}")
        if wanted is None:
            head, wanted = self._generation_of_snapshot(head, name, now)
        else:
            self._sound_with_model(wanted)
        if wanted.generation != head.generation:
            self.head = self._put_in_force(gone_back(head, wanted, now), wanted)
        self._show_current()  # whoever goes back and was refused here comes again
        return wanted

    def leave_models(self, lost: Collection[str]) -> Kept | None:
        """Put the newest sound kept generation in force that stands on none of these; ``None`` if there is none.

        Those that stand on one of them stay kept: whoever brings the model back can go back to them.
        """
        head = self.head
        if head is None:
            return None
        if head.model_path not in lost:
            return head.in_force
        for kept in sorted(head.kept, key=lambda one: one.generation, reverse=True):
            if kept.model_path in lost:
                continue
            try:
                verify(self._disk, kept.path, kept.manifest)
            except Damaged:
                continue  # told when somebody goes back to it
            # As a person would: so that it can be undone once the model is back.
            self.head = self._put_in_force(gone_back(head, kept, head.when), kept)
            self._show_current_or_later()
            return kept
        return None

    def pin(self, name: str, *, pinned: bool) -> Target:
        """Pin or unpin: one replacement of HEAD, or none if it is so already. Returns what it was before.

        What is pinned must be sound, for whoever pins it relies on it. Nothing is deleted here: what is unpinned goes
        when retention comes.

        Raises:
            OperatorError: NF-STATE-003 it is not kept; Damaged: it is kept and not sound. ``OSError``: as ``commit``.
        """
        self._sync_head()
        head, target = target_of(self.head, self._days(), name)
        if pinned:
            for kept in target.needed:
                self._sound_with_model(kept)
            if target.kind == "night" and len(target.needed) < 2:
                raise Damaged(f"the generations before and after night {name} are not both kept")
        snapshot = self._pinned_snapshot(name) if pinned and target.kind == "snapshot" else None
        new = with_pin(head, target, snapshot, pinned=pinned)
        if new != head:
            self.head = self._put_in_force(new, new.in_force)
        return target

    def _days(self) -> list[str]:
        return [posixpath.basename(path) for path in reversed(self._all_snapshots())]

    def _sound_with_model(self, kept: Kept) -> None:
        assert self.head is not None, "HEAD keeps it"
        verify_kept(self._disk, kept, self.head.kept)
        self._model_is_there(kept.path, kept.model_path)

    def _model_is_there(self, path: str, model_path: str) -> None:
        """An adapter alone is of no use without the merged model that it stands on."""
        if model_path and self._disk.stat(model_path) is None:
            raise Damaged(f"the model that {path} stands on, {model_path}, is not there")

    def _pinned_snapshot(self, day: str) -> PinnedSnapshot:
        manifest = verify_alone(self._disk, f"{SNAPSHOTS}/{day}")
        self._model_is_there(f"{SNAPSHOTS}/{day}", manifest.model_path)
        return _as_pinned(day, manifest)

    def _still_kept(self, head: Head, folder: str) -> Kept | None:
        """The generation that a snapshot was copied from, if it is still kept."""
        if self._disk.stat(f"{folder}/{MANIFEST}") is None:
            raise Damaged(f"{folder} is not whole")
        digest = durable.digest_of(self._disk, f"{folder}/{MANIFEST}")
        return next((kept for kept in head.kept if kept.manifest == digest), None)

    def _generation_of_snapshot(self, head: Head, day: str, now: str) -> tuple[Head, Kept]:
        folder = f"{SNAPSHOTS}/{day}"
        manifest = verify_alone(self._disk, folder)
        self._model_is_there(folder, manifest.model_path)
        files = {name: self._disk.read(f"{folder}/{name}") for name in manifest.files if name != TRAINER_STATE}
        state = decode_state(self._disk.read(f"{folder}/{TRAINER_STATE}"), f"{folder}/{TRAINER_STATE}")
        known = {delta.night for delta in head.deltas}
        deltas = (*head.deltas, *(delta for delta in manifest.deltas if delta.night not in known))
        head = msgspec.structs.replace(head, deltas=deltas)
        why = f"snapshot {day}"
        # It grew on what the snapshot was copied from, and not on what is in force.
        grown_on = msgspec.structs.replace(head, generation=manifest.generation)
        model, digest = manifest.model_path, manifest.model_digest
        kept = self._write_generation(grown_on, files, state, why, now, model, manifest.ledger, digest)
        return msgspec.structs.replace(head, kept=(*head.kept, kept)), kept

    # Retention.

    def verdicts(self, *, measure: bool = False) -> tuple[Verdict, ...]:
        """What becomes of everything, and why; ``measure`` weighs also what no bound asks for."""
        return judge(self.head, self._bounds, survey(self._disk, self.head, self._bounds, measure=measure))

    def _trimmed(self, head: Head, newest: Kept) -> Head:
        """``head`` without what retention no longer keeps once ``newest`` is in force; the files go in ``prune``."""
        moved = msgspec.structs.replace(head, generation=newest.generation, model_path=newest.model_path)
        # Only the models' sizes have a say in what HEAD keeps, and only where they are bounded.
        unbounded = self._bounds.nights_bytes_max is None
        found = Found() if unbounded else survey(self._disk, moved, self._bounds)
        kept = trimmed(moved, judge(moved, self._bounds, found))
        return self._without_condemned(msgspec.structs.replace(head, kept=kept.kept, nights=kept.nights), newest)

    def prune(self) -> Pruned:
        """Let go of what the bounds no longer keep, HEAD first, and delete it. One that will not go is told.

        Before anything was committed, or HEAD was read, nothing is known of what is kept, and nothing goes.
        A generation that was folded stays as long as the delta made of it is damaged.
        """
        if self.head is None:
            return Pruned((), ())
        deleted: list[str] = []
        stuck: list[str] = []
        damaged: list[Delta] = []
        try:
            self._sync_head()
            self._let_go()
            self._set_condemned_aside()
        except OSError:
            if self._head_unsynced:  # the HEAD before may come back: nothing that it keeps is deleted
                return Pruned((), tuple(self._prunable()))
        self._show_current_or_later()
        for path in self._prunable():
            needing = self._damaged_delta_of(path)
            if needing is not None:
                damaged.append(needing)
                continue
            try:
                durable.remove(self._disk, path)
            except OSError:
                stuck.append(path)
            else:
                deleted.append(path)
        return Pruned(tuple(deleted), tuple(stuck), self.head.models_needed(), tuple(damaged))

    def _damaged_delta_of(self, path: str) -> Delta | None:
        """The delta that was made of this generation, if it is not sound now."""
        assert self.head is not None, "only what a HEAD does not keep goes"
        for delta in self.head.deltas:
            if generation_path(delta.generation) == path:
                try:
                    verify(self._disk, delta.path, delta.digest)
                except Damaged:
                    return delta
        return None

    def _let_go(self) -> None:
        """HEAD lets go of what the bounds, a lower config or an unpinning no longer keep."""
        assert self.head is not None, "there is something to let go of"
        new = self._trimmed(self.head, self.head.in_force)
        if new != self.head:
            self.head = self._put_in_force(new, new.in_force)

    def _prunable(self) -> list[str]:
        """What goes, but for what HEAD on the disk still names: it may have refused to let go of it."""
        assert self.head is not None, "only what a HEAD does not keep goes"
        reached = {kept.path for kept in self.head.kept}
        going = [verdict for verdict in self.verdicts() if not verdict.stays]
        return [
            *(one.path for one in going if one.kind == "generation" and one.path not in reached),
            *(one.path for one in going if one.kind == "snapshot"),
            *(one.path for one in going if one.kind == "leftover"),
        ]

    def snapshot(self, day: str) -> str:
        """Copy the generation in force to ``snapshots/<day>`` unless that day has one; returns its path or ``""``."""
        path = f"{SNAPSHOTS}/{day}"
        if self.head is None or self._disk.stat(path) is not None:
            return ""
        # A copy, not a hard link: a link would share the damage that a snapshot is kept against.
        durable.write_directory(self._disk, path, durable.copy_files(self._disk, self.head.generation_path))
        return path
