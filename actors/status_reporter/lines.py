"""One readable line for each thing a person wants to see while the daemon runs in the foreground."""

from __future__ import annotations

from messages import (
    ActorCrashed,
    ActorGaveUp,
    ActorStuck,
    BatchAccepted,
    BatchFailed,
    BatchFiled,
    BatchRejected,
    BatchStarted,
    BatchTrained,
    CommitFailed,
    DamageFound,
    DamageHealed,
    DiskRecovered,
    DiskRunningLow,
    FileWithdrawn,
    GenerationCommitted,
    HeldOutLoss,
    InboxReplaced,
    LeftoversSwept,
    Message,
    MessageDeadLettered,
    MicroBatchHalved,
    ModelGivenUp,
    ModelHealed,
    ModelNotHealed,
    NightFinished,
    NightRefused,
    NightStarted,
    NightVerified,
    PinSet,
    PluginNoted,
    ReserveMade,
    ReserveReleased,
    RetentionApplied,
    ScrubFinished,
    SnapshotKept,
    StepSkipped,
    TrainedFilesDeleted,
    TrainerReady,
    TrainingIdle,
    TrainingPaused,
    TrainingResumed,
    TrainingWaits,
)

LINES_SHOWN = 5
CONTINUED = "\n" + 13 * " "
"""Between a line and what belongs under it."""


def _of_upkeep(message: Message) -> str | None:
    match message:
        case DamageFound():
            return f"damage     {message.what}: {message.why}; in its place: {message.instead}"
        case DamageHealed():
            return f"healed     {message.what}: {message.how}"
        case ScrubFinished():
            found = f"{message.damaged} damaged" if message.damaged else "all sound"
            return f"scrubbed   {message.things} things, {message.size_bytes / 1e6:.1f} MB: {found}"
    return None


def line_for(message: Message) -> str | None:
    """The line, or ``None`` for what is not worth one. Safe for a terminal, whatever a dropped file is called."""
    line = (
        _of_batches(message)
        or _of_learning(message)
        or _of_nights(message)
        or _of_space(message)
        or _of_keeping(message)
        or _of_trouble(message)
        or _of_upkeep(message)
    )
    return None if line is None else CONTINUED.join(_printable(part) for part in line.split(CONTINUED))


def _printable(text: str) -> str:
    return "".join(
        sign if sign.isprintable() else sign.encode("unicode_escape", "surrogatepass").decode() for sign in text
    )


def _of_batches(message: Message) -> str | None:
    match message:
        case BatchAccepted():
            bad = f", {message.line_error_count} bad lines left out" if message.line_error_count else ""
            return f"checked    {message.name}: {message.examples} examples{bad}" + _notes(message.warnings)
        case BatchRejected() | BatchFailed():
            word = "rejected" if isinstance(message, BatchRejected) else "failed"
            report = message.report
            lines = "".join(f"{CONTINUED}{error}" for error in report.errors[:LINES_SHOWN])
            more = report.error_count - min(len(report.errors), LINES_SHOWN)
            return (
                f"{word:10} {message.name}: {report.trouble.message} [{report.trouble.code}]{lines}"
                + (f"{CONTINUED}and {more} more" if more > 0 else "")
                + (f"{CONTINUED}{report.trouble.hint}" if report.trouble.hint else "")
            )
        case BatchStarted():
            if message.step:
                return f"training   {message.name}: goes on at step {message.step} of {message.steps}"
            return f"training   {message.name}: {message.steps} steps, {message.tokens} tokens"
        case BatchTrained():
            receipt = message.receipt
            return (
                f"trained    {message.name}: loss {_loss(receipt.loss_before)} -> {_loss(receipt.loss_after)} "
                + (
                    f"(held out {_loss(receipt.loss_held_out_before)} -> {_loss(receipt.loss_held_out_after)}) "
                    if receipt.held_out
                    else ""
                )
                + f"in {receipt.steps} steps, {receipt.seconds:.1f} s"
                + _notes(receipt.warnings)
            )
        case BatchFiled() if message.path:
            return f"filed      {message.path}"
        case FileWithdrawn():
            return f"withdrawn  {message.name}: taken back before it was claimed"
        case InboxReplaced():
            return "inbox      was removed and made again" if message.made_again else "inbox      was replaced"
    return None


def _of_learning(message: Message) -> str | None:
    match message:
        case TrainerReady():
            base = f" on night {message.base}" if message.base else ""
            return (
                f"ready      {message.model}{base}: {message.parameters / 1e6:.2f} M parameters, "
                f"{message.trainable / 1e3:.0f} k trained, {message.dtype} on {message.device}; "
                f"adapter {message.adapter_id} at step {message.adapter_step}, {message.global_step} in all"
            )
        case GenerationCommitted():
            return (
                f"committed  generation {message.generation} ({message.why}): step {message.global_step}, "
                f"{message.size_bytes / 1e6:.1f} MB in {message.seconds * 1000:.0f} ms"
            )
        case SnapshotKept():
            return f"snapshot   {message.path}"
        case TrainingPaused():
            return f"paused     at step {message.global_step}, everything committed"
        case TrainingResumed():
            return "resumed"
        case TrainingIdle():
            return f"idle       at step {message.global_step}"
        case TrainingWaits():
            return f"waits      {message.name}: {message.why}"
        case StepSkipped():
            return f"skipped    a step at {message.global_step}: {message.why}"
        case MicroBatchHalved():
            return f"memory     ran out: {message.micro_batch} examples at a time now"
    return None


def _of_nights(message: Message) -> str | None:
    match message:
        case NightStarted():
            return f"night      {message.night}: merging {message.deltas} delta(s) into the pristine base"
        case NightVerified():
            return (
                f"verified   {message.tensors} tensors; largest logit difference to base + adapter "
                f"{message.max_logit_difference:.2e}" + _held_out(message.held_out)
            )
        case NightFinished():
            return f"night      {message.night}: {message.model_path} is in force after {message.seconds:.1f} s"
        case NightRefused():
            return f"night      refused: {message.why} [{message.code}]"
        case ModelHealed(anew=True):
            return (
                f"healed     {message.path}: merged anew in {message.seconds:.1f} s, with the bytes that were committed"
            )
        case ModelNotHealed():
            again = f"; tried again in {message.again_in_s:.0f} s"
            return f"not healed {message.path}: {message.why} [{message.code}]{again}"
        case ModelGivenUp():
            why = f"it cannot be made again: {message.why} [{message.code}]"
            return f"given up   {message.path}: {why}; in force is {message.instead}"
    return None


def _of_space(message: Message) -> str | None:
    match message:
        case DiskRunningLow(again=0):
            return f"disk       only {message.free_bytes} bytes free, {message.free_bytes_min} wanted"
        case DiskRecovered():
            return f"disk       {message.free_bytes} bytes free again"
        case ReserveMade():
            return f"reserve    {message.size_bytes} bytes are set aside for a full disk"
        case ReserveReleased():
            size = message.size_bytes
            return f"reserve    {size} bytes released, so that status and HEAD can be written: {message.why}"
    return None


def _of_keeping(message: Message) -> str | None:
    match message:
        case PinSet():
            return f"{'pinned' if message.pinned else 'unpinned':<10} {message.kind} {message.target}"
        case RetentionApplied() if message.stuck:
            return f"stuck      could not delete {', '.join(message.stuck)}; tried again later"
        case TrainedFilesDeleted() if message.stuck:
            return f"stuck      could not delete {', '.join(message.stuck)} in trained/; tried again later"
        case TrainedFilesDeleted():
            return f"deleted    {len(message.names)} of the oldest files in trained/, {message.size_bytes} bytes"
    return None


def _of_trouble(message: Message) -> str | None:
    match message:
        case CommitFailed():
            return f"disk       refused the commit: {message.why} [{message.code}]; training holds"
        case LeftoversSwept():
            return f"swept      {len(message.removed)} leftovers removed, {len(message.set_aside)} set aside"
        case ActorCrashed():
            last_line = message.why.strip().rsplit("\n", 1)[-1]
            return (
                f"crashed    {message.actor} over {message.message_type}: {last_line}; "
                f"restarts in {message.restart_in_s:.1f} s"
            )
        case ActorGaveUp(disabled=True):
            return f"disabled   {message.actor}: {message.why} [NF-RUN-006]; all else goes on without it"
        case ActorGaveUp():
            return f"gave up    {message.actor}: {message.why}"
        case PluginNoted():
            code = f" [{message.code}]" if message.code else ""
            return f"plug-in    {message.plugin}: {message.what}{code}" + (
                f"{CONTINUED}{message.hint}" if message.hint else ""
            )
        case ActorStuck():
            stack = CONTINUED.join(message.stack.splitlines())
            return f"stuck      {message.actor} for {message.seconds:.0f} s: {stack}"
        case MessageDeadLettered():
            last_line = message.why.strip().rsplit("\n", 1)[-1]
            return f"dead       {message.count} {message.message_type} to {message.actor}: {last_line}"
    return None


def _held_out(found: HeldOutLoss | None) -> str:
    if found is None:
        return "; nothing was held out to measure"
    return (
        f"; held-out loss {found.merged:.3f}, base + adapter {found.adapter:.3f}, without the adapter "
        f"{found.yesterday:.3f}"
    )


def _loss(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _notes(warnings: tuple[str, ...]) -> str:
    return "".join(f"{CONTINUED}note: {warning}" for warning in warnings)
