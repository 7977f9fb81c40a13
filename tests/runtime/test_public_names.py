"""The names that plug-ins are written against. Adding is easy; what is removed or renamed breaks somebody's plug-in.

``messages`` and ``runtime`` are the public surface (``actors/WRITE_AN_ACTOR.md``). A name that is gone from the lists
below, or a field that is gone, renamed or moved, fails here: keep it, and add the new one beside it.
"""

from __future__ import annotations

import inspect

import msgspec

import messages
import runtime
from runtime import Actor

STRUCTS = """
ActorCrashed: actor incarnation message_type why cause_chain restart_in_s
ActorEnded: actor incarnation how why
ActorGaveUp: actor why disabled
ActorStarted: actor incarnation
ActorStuck: actor seconds stack
AdapterBegun: state ticket
AdapterNotBegun: why
BatchAccepted: batch name path digest size_bytes examples warnings line_errors line_error_count
BatchClaimed: batch name path size_bytes
BatchExhausted: state trained ticket
BatchFailed: batch name report
BatchFiled: batch name folder path
BatchOpened: cursor tokens
BatchRejected: batch name path report
BatchStarted: batch name step steps examples tokens
BatchTrained: batch name receipt
BatchesWanted:
BeginAdapter: night model_path model_digest
CommitFailed: ticket code why out_of_space
CommitFinally: ticket state why
CommitGeneration: ticket state why
CommitNight: night due_date delta_generation model_path ticket state model_digest
Completion: prompt completion
ConsolidateNow:
Conversation: turns tools
Cursor: batch name path digest examples step steps epochs first_global_step loss_before tokens_trained
    tokens_masked tokens_cut seconds checkpoints checkpoint_seconds steps_skipped resumed warnings held_out
    loss_held_out_before
DamageFound: what why instead
DamageHealed: what how
Delta: night path digest due_date global_step generation
DiskMeasured: free_bytes needed_bytes ok batch_bytes night_bytes reserve_bytes low
DiskRecovered: free_bytes
DiskRunningLow: free_bytes free_bytes_min again
EngineLoaded: state generation device dtype model parameters trainable
EngineStumbled: code why transient traceback
FileWithdrawn: name batch
GenerationCommitted: ticket generation path why global_step adapter_id adapter_step size_bytes seconds
GenerationDamaged: generation path
HealAgain: path waited
HealModel: path why
HeldOutLoss: examples tokens merged adapter yesterday
InboxChanged:
InboxReplaced: made_again
InboxSurveyed: waiting waiting_count unready ignored claimed
LearningState: schema global_step adapter_id adapter_step base base_fingerprint seed threads learning_since
    cursor unfiled
LeaveModels: paths
LeftoversSwept: removed set_aside
LineError: line path expected found
MergedModel: path digest deltas in_force
Message:
MessageDeadLettered: actor message_type why count subject
MessagesDropped: actor count
MicroBatchHalved: batch micro_batch
ModelGivenUp: path code why instead
ModelHealed: path anew seconds
ModelNotHealed: path code why again_in_s
ModelRefused: path why
ModelsLeft: generation path model_path
ModelsNeeded: models base_fingerprint
ModelsWanted:
NightClosed: night committed
NightCommitted: night generation model_path global_step adapter_id
NightFinished: night model_path seconds
NightNotCommitted: why
NightRefused: night code why held_out
NightStarted: night due_date deltas
NightVerified: night tensors max_logit_difference seconds held_out
NoOtherModel: why
PauseTraining:
PinRefused: target code why hint
PinSet: target kind pinned was
PinWanted: target pinned
PluginNoted: plugin what code hint
Question:
Receipt: batch name digest examples epochs steps first_global_step last_global_step adapter_id tokens_trained
    tokens_masked tokens_cut loss_before loss_after seconds checkpoints checkpoint_seconds checkpoint_share
    steps_skipped resumed when warnings line_errors line_error_count held_out loss_held_out_before loss_held_out_after
RecordTrace: on
Report: batch name trouble errors error_count good_lines steps_kept when notes
ReserveMade: size_bytes
ReserveReleased: size_bytes why
ResumeTraining:
RetentionApplied: deleted stuck models_needed
ScrubFinished: things size_bytes damaged seconds
SnapshotKept: path generation
SpaceGranted: free_bytes needed_bytes
SpaceNeeded: purpose need_bytes
SpaceRefused: free_bytes needed_bytes missing_bytes
StateInForce: generation path state ledger model_path models_needed model_digest ledger_damage damage
StateWanted: ledger only_look
StepSkipped: batch global_step why
StepsTaken: state taken loss learning_rate grad_norm seconds tokens micro_batch skipped ticket
SurveyWanted:
Text: text
TraceRecording: on was trouble
TrainedFilesDeleted: names size_bytes stuck
TrainerBusy: why
TrainerReady: device dtype model parameters trainable generation global_step adapter_id adapter_step base
TrainerYielded: state
TrainingIdle: global_step
TrainingPaused: global_step
TrainingProgress: batch name step steps global_step adapter_step loss learning_rate grad_norm tokens_per_second
    eta_s
TrainingResumed:
TrainingWaits: name why missing_bytes
Trouble: code message hint
TryAgain:
Turn: role content weight name tool_calls tool_call_id
YieldTrainer: night
"""
"""Each message, and each struct that messages carry, with its fields in order."""

OTHER_MESSAGE_NAMES = """
Example LineProblem SCHEMA decode_line lines_of read_examples reply_types
"""

RUNTIME_NAMES = """
Actor ActorSystem AskFailed AskTimeout Backoff Branch Child DeadLetter GaveUp HandlerError MailboxSpec
NoSettings OperatorError Retry Tick TopologyError WaitCycle daily every on
"""

ACTOR_NAMES = """
ask blocking cloakroom clock device device_call disk finish name on_device on_start on_stop post post_later snooze send
sends system watch
"""
"""What an actor has on ``self``, beside ``settings``."""

SIGNATURES = {
    "send": "(self, message)",
    "post": "(self, message)",
    "post_later": "(self, seconds, message)",
    "ask": "(self, question, *, timeout)",
    "blocking": "(self, job)",
    "on_device": "(self, job)",
    "device_call": "(self, job)",
    "finish": "(self)",
    "watch": "(self, name)",
    "on_start": "(self)",
    "on_stop": "(self)",
}


def frozen_fields() -> dict[str, list[str]]:
    joined = STRUCTS.strip().replace("\n    ", " ")
    return {line.partition(":")[0]: line.partition(":")[2].split() for line in joined.splitlines()}


def differences(kind: str, frozen: set[str], found: set[str]) -> str:
    gone = "".join(
        f"\n{kind} {name} is gone, and plug-ins depend on it: keep it, and add the new one beside it"
        for name in sorted(frozen - found)
    )
    new = "".join(f"\n{kind} {name} is new: add it to the list in this file" for name in sorted(found - frozen))
    return gone + new


def test_messages_exports_what_plug_ins_were_written_against() -> None:
    frozen = set(frozen_fields()) | set(OTHER_MESSAGE_NAMES.split())
    assert not (words := differences("messages.", frozen, set(messages.__all__))), words


def test_runtime_exports_what_plug_ins_were_written_against() -> None:
    assert not (words := differences("runtime.", set(RUNTIME_NAMES.split()), set(runtime.__all__))), words
    for name in runtime.__all__:
        assert getattr(runtime, name) is not None


def test_every_field_of_a_message_is_where_it_was() -> None:
    words = ""
    for name, frozen in frozen_fields().items():
        kind = getattr(messages, name, None)
        if kind is None:
            continue  # told by another test
        fields = list(kind.__struct_fields__)
        if fields[: len(frozen)] != frozen:
            words += f"\n{name} had the fields {frozen} and now has {fields}: plug-ins depend on them and their order"
        for field in msgspec.structs.fields(kind)[len(frozen) :]:
            more = " and needs a default, or plug-ins that send it break" if field.required else ""
            words += f"\n{name}.{field.name} is new{more}: add it to the list in this file"
    assert not words, words


def test_an_actor_has_on_self_what_plug_ins_use() -> None:
    found = {name for name in dir(Actor) if not name.startswith("_")}
    assert not (words := differences("Actor.", set(ACTOR_NAMES.split()), found)), words
    for name, expected in SIGNATURES.items():
        parameters = inspect.signature(getattr(Actor, name)).parameters.values()
        bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
        assert str(inspect.Signature(bare)) == expected, f"plug-ins call Actor.{name}{expected}"


def test_what_is_removed_is_told_with_the_reason_and_what_is_new_with_what_to_do() -> None:
    assert "messages. X is gone, and plug-ins depend on it" in differences("messages.", {"X"}, set())
    assert "messages. Y is new: add it" in differences("messages.", set(), {"Y"})
