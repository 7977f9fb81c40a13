"""What the daemon is doing, folded from what the actors say. Pure: messages in, a page out.

``status/training_status.json`` is this page; its fields are documented in README and only ever added to.
"""

from __future__ import annotations

import msgspec

from messages import (
    ActorCrashed,
    ActorGaveUp,
    ActorStuck,
    BatchAccepted,
    BatchClaimed,
    BatchFailed,
    BatchFiled,
    BatchRejected,
    BatchStarted,
    BatchTrained,
    CommitFailed,
    DamageFound,
    DiskMeasured,
    FileWithdrawn,
    GenerationCommitted,
    HeldOutLoss,
    InboxSurveyed,
    LeftoversSwept,
    Message,
    MessagesDropped,
    ModelGivenUp,
    ModelHealed,
    ModelNotHealed,
    NightClosed,
    NightCommitted,
    NightFinished,
    NightRefused,
    NightStarted,
    NightVerified,
    PluginNoted,
    RetentionApplied,
    ScrubFinished,
    TrainerReady,
    TrainingIdle,
    TrainingPaused,
    TrainingProgress,
    TrainingResumed,
    TrainingWaits,
)

PROBLEMS_KEPT = 10


class BatchLine(msgspec.Struct):
    """The batch in training; ``loss`` in nats per trained token."""

    name: str
    batch: str
    step: int
    steps: int
    loss: float | None = None
    tokens_per_second: float = 0.0
    eta_s: float = 0.0
    learning_rate: float = 0.0


class DiskLine(msgspec.Struct):
    """Space on the home's file system; the fields are those of ``DiskMeasured``."""

    free_bytes: int = 0
    needed_bytes: int = 0
    ok: bool = True
    batch_bytes: int = 0
    night_bytes: int = 0
    reserve_bytes: int = 0
    low: bool = False


class ErrorLine(msgspec.Struct):
    """The newest thing that went wrong."""

    code: str
    message: str
    hint: str
    when: str


class ScrubLine(msgspec.Struct):
    """The last time that everything kept was read and compared: when it ended, and what it came to."""

    when: str
    things: int
    size_bytes: int
    damaged: int


class Counts(msgspec.Struct):
    """Files in their last places. Counted by the reporter where they lie: what is told of them may be told twice."""

    trained: int = 0
    rejected: int = 0
    failed: int = 0


class DisabledLine(msgspec.Struct):
    """A plug-in that was switched off; it stays so until the daemon is started again."""

    name: str
    why: str
    since: str


class Page(msgspec.Struct):
    """``training_status.json``."""

    schema: int = 1
    state: str = "idle"
    reason: str = "starting"
    pid: int = 0
    heartbeat: str = ""
    started: str = ""
    global_step: int = 0
    adapter_id: str = ""
    adapter_step: int = 0
    generation: int = 0
    base_model: str = ""
    base: str = ""
    device: str = ""
    queue: list[str] = []
    batch: BatchLine | None = None
    disk: DiskLine = msgspec.field(default_factory=DiskLine)
    last_error: ErrorLine | None = None
    problems: list[ErrorLine] = []
    counts: Counts = msgspec.field(default_factory=Counts)
    night: str = ""
    last_consolidation: str = ""
    unready: list[str] = []
    ignored: list[str] = []
    restarts: int = 0
    dropped: int = 0
    deletes_stuck: int = 0
    disabled: list[DisabledLine] = []
    last_scrub: ScrubLine | None = None
    held_out: HeldOutLoss | None = None


class Folder:
    """Folds messages into a page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._paused = False
        self._validating: dict[str, str] = {}
        self._ready = False
        self._waits = ""

    def fold(self, message: Message, when: str) -> None:
        """Take one message in."""
        self._fold_batches(message)
        self._fold_learning(message)
        self._fold_nights(message)
        self._fold_trouble(message, when)
        if isinstance(message, ScrubFinished):
            self.page.last_scrub = ScrubLine(when, message.things, message.size_bytes, message.damaged)
        self.page.state, self.page.reason = self._state()

    def _fold_batches(self, message: Message) -> None:
        page = self.page
        match message:
            case InboxSurveyed():
                current = page.batch.name if page.batch else None
                claimed = list(message.claimed)
                if current in claimed:
                    claimed.remove(current)
                page.queue = [*claimed, *message.waiting]
                page.unready = list(message.unready)
                page.ignored = list(message.ignored)
            case BatchClaimed():
                self._validating[message.batch] = message.name
            case BatchAccepted() | BatchRejected():
                self._validating.pop(message.batch, None)
            case BatchStarted():
                self._waits = ""
                page.batch = BatchLine(message.name, message.batch, message.step, message.steps)
                if message.name in page.queue:
                    page.queue.remove(message.name)
            case BatchTrained() | BatchFailed():
                if page.batch is not None and page.batch.batch == message.batch:
                    page.batch = None
            case FileWithdrawn():
                self._validating = {key: name for key, name in self._validating.items() if name != message.name}
            case BatchFiled():
                # Also of a claim that was sent again when the file had its outcome: nobody answers that one.
                self._validating.pop(message.batch, None)

    def _fold_learning(self, message: Message) -> None:
        page = self.page
        match message:
            case TrainerReady():
                self._ready = True
                page.batch = None  # it has begun anew, and let go of what it had in hand until that comes again
                page.global_step, page.adapter_id = message.global_step, message.adapter_id
                page.adapter_step, page.base = message.adapter_step, message.base
                page.base_model, page.device = message.model, message.device
                page.generation = message.generation
                page.last_consolidation = message.base or page.last_consolidation
            case TrainingProgress():
                page.global_step, page.adapter_step = message.global_step, message.adapter_step
                if page.batch is None or page.batch.batch != message.batch:
                    # A reporter that began anew in the middle of a batch has not heard that it started.
                    page.batch = BatchLine(message.name, message.batch, message.step, message.steps)
                page.batch.step, page.batch.steps = message.step, message.steps
                page.batch.loss = message.loss if message.loss is not None else page.batch.loss
                page.batch.tokens_per_second, page.batch.eta_s = message.tokens_per_second, message.eta_s
                page.batch.learning_rate = message.learning_rate
            case GenerationCommitted():
                page.generation, page.global_step = message.generation, message.global_step
                page.adapter_id, page.adapter_step = message.adapter_id, message.adapter_step
                self._waits = ""
            case TrainingPaused():
                self._paused = True
            case TrainingResumed():
                self._paused = False
                self._waits = ""
            case TrainingIdle():
                self._waits = ""
                page.batch = None  # one that was in training and was dropped has no other end
            case TrainingWaits():
                self._waits = f"waits for {message.why}" + (
                    f" ({message.missing_bytes} bytes missing)" if message.missing_bytes else ""
                )
            case ModelHealed() | ModelGivenUp():
                self._waits = ""
            case DiskMeasured():
                page.disk = DiskLine(**{name: getattr(message, name) for name in DiskLine.__struct_fields__})

    def _fold_nights(self, message: Message) -> None:
        page = self.page
        match message:
            case NightStarted():
                page.night = message.night
            case NightCommitted():
                page.generation, page.adapter_id, page.adapter_step = message.generation, message.adapter_id, 0
            case NightFinished():
                page.last_consolidation = message.night
                page.base = message.night
            case NightClosed():
                page.night = ""
            case NightVerified():
                page.held_out = message.held_out
            case NightRefused() if message.held_out is not None:
                page.held_out = message.held_out

    def _fold_trouble(self, message: Message, when: str) -> None:
        page = self.page
        found = _of_a_model(message)
        match message:
            case BatchRejected() | BatchFailed():
                trouble = message.report.trouble
                found = (trouble.code, f"{message.name}: {trouble.message}", trouble.hint)
            case CommitFailed():
                found = (message.code, message.why, "training holds; it goes on by itself when the disk takes writes")
            case NightRefused():
                found = (message.code, f"night {message.night}: {message.why}", "yesterday stays in force")
            case DamageFound():
                found = ("NF-STATE-006", f"{message.what}: {message.why}", f"in its place: {message.instead}")
            case ActorCrashed():
                page.restarts += 1
                last_line = message.why.strip().rsplit("\n", 1)[-1]
                found = ("NF-RUN-005", f"{message.actor} crashed over {message.message_type}: {last_line}", "restarted")
            case ActorGaveUp(disabled=True):
                others = [line for line in page.disabled if line.name != message.actor]
                page.disabled = [*others, DisabledLine(message.actor, message.why, since=when)]
                found = ("NF-RUN-006", f"{message.actor} is switched off: {message.why}", "all else goes on without it")
            case ActorGaveUp():
                found = ("NF-RUN-003", f"{message.actor}: {message.why}", "the daemon ends")
            case PluginNoted() if message.code:
                found = (message.code, f"{message.plugin}: {message.what}", message.hint)
            case ActorStuck():
                found = (
                    "NF-RUN-004",
                    f"{message.actor} stands still for {message.seconds:.0f} s",
                    message.stack[-300:],
                )
            case MessagesDropped():
                page.dropped = max(page.dropped, message.count)
            case RetentionApplied():
                page.deletes_stuck = len(message.stuck)
            case LeftoversSwept():
                return
        if found is not None:
            page.last_error = ErrorLine(*found, when=when)
            page.problems = [*page.problems[-(PROBLEMS_KEPT - 1) :], page.last_error]

    def _state(self) -> tuple[str, str]:
        page = self.page
        if page.night:
            return "consolidating", f"night {page.night}"
        if self._paused:
            return "paused", "until: nightfold resume"
        if self._waits:
            return ("training" if page.batch is not None else "idle"), self._waits
        if page.batch is not None:
            return "training", page.batch.name
        if self._validating:
            return "validating", ", ".join(self._validating.values())
        return "idle", "" if self._ready else "the model is being loaded"


def _of_a_model(message: Message) -> tuple[str, str, str] | None:
    """Code, message and hint of trouble with a merged model."""
    match message:
        case ModelNotHealed():
            hint = f"tried again in {message.again_in_s:.0f} s; until then nothing is loaded that stands on it"
            return message.code, f"{message.path} is not healed: {message.why}", hint
        case ModelGivenUp():
            return message.code, f"{message.path} is given up: {message.why}", f"in force is {message.instead}"
    return None
