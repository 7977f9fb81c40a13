"""The engine that really trains: PEFT's LoRA on a transformers model, stepped by hand.

Guarantees, beyond the protocol's contract:
    * The gradient of a step is that of the mean loss over all trained tokens of the whole step, however the step is
      cut into micro-batches.
    * The learning rate is a function of ``adapter_step`` alone.
    * A step whose loss or gradient is not finite changes neither weights nor moments.
    * Out of memory: the same step again in pieces half the size.
    * On the CPU the same steps give the same bytes, through any number of snapshots and loads.

Knows nothing of files' fates or commits. Everything here runs on the Trainer's device thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator

from actors.trainer import base_model, order
from actors.trainer.adapter import CONFIG, WEIGHTS, Adapter, seed_of
from actors.trainer.device_limits import cores, device_trouble, free_memory, out_of_memory
from actors.trainer.engine import BatchPlan, EngineError, EngineInfo, Step
from actors.trainer.held_out import KeptSample, hold_out, read_kept_sample, window_of
from actors.trainer.host_buffers import HostBuffers, Tensors
from actors.trainer.loss import trained_loss
from actors.trainer.optimizer_file import (
    OPTIMIZER,
    RNG,
    Generators,
    fresh_adamw,
    optimizer_tensors,
    read_optimizer,
)
from actors.trainer.rendering import Renderer
from actors.trainer.settings import TrainerSettings
from actors.trainer.tokenised_batch import TokenisedBatch, read_batch
from messages import Cursor, LearningState
from messages.held_out import HELD_OUT
from runtime.disk import Buffer, DiskPort

T = TypeVar("T")

CHUNK_BYTES = 1 << 20


class _Loaded:
    """All that is on the device."""

    def __init__(
        self, accelerator: Accelerator, adapter: Adapter, optimizer: torch.optim.AdamW, generators: Generators
    ) -> None:
        self.accelerator = accelerator
        self.adapter = adapter
        self.model = accelerator.prepare_model(adapter.model)
        self.optimizer = optimizer
        self.generators = generators
        self.config = adapter.config_file()
        # The adapter's matrices and its moments are changed in their place, so they are looked up only once.
        self._lasting = {WEIGHTS: adapter.tensors(), OPTIMIZER: optimizer_tensors(optimizer, adapter.parameters)}
        on_cuda = accelerator.device.type == "cuda"
        self.buffers = HostBuffers(
            self._tensors, pinned=on_cuda, synchronise=torch.cuda.synchronize if on_cuda else None
        )

    def _tensors(self) -> dict[str, Tensors]:
        return {**self._lasting, RNG: self.generators.tensors()}


class _Open:
    """The batch in training: its tokens, its steps, and how many of them are done."""

    def __init__(
        self, tokens: TokenisedBatch, steps: list[Any], sample: list[int], held_out: list[int], done: int
    ) -> None:
        self.tokens = tokens
        self.steps = steps
        self.sample = sample
        self.held_out = held_out
        self.done = done
        self.micro_batch: int | None = None


class TorchEngine:
    """``Engine`` on one device of this machine."""

    def __init__(self, disk: DiskPort, settings: TrainerSettings) -> None:
        self._disk = disk
        self._settings = settings
        self._loaded: _Loaded | None = None
        self._open: _Open | None = None
        self._renderer: Renderer | None = None
        self._length_max: int | None = None
        self._seed = 0
        self._kept_sample = KeptSample()

    def load(self, state: LearningState, generation_path: str, model_path: str) -> EngineInfo:
        self.unload()
        settings = self._settings
        pristine = base_model.base_folder(self._disk, settings.model)
        fingerprint = base_model.fingerprint(pristine)
        if state.base_fingerprint and state.base_fingerprint != fingerprint:
            raise EngineError("NF-MODEL-010", f"{settings.model} is not the model this home began with")
        name = model_path or _portable(self._disk, settings.model)
        folder = base_model.checked_folder(self._disk.real_path(model_path), name) if model_path else pristine
        device = base_model.choose_device(settings)
        dtype = base_model.choose_dtype(settings, device)
        threads = state.threads or settings.threads or cores()
        torch.set_num_threads(threads)
        # On a GPU determinism costs speed and some models do not run at all, so it is only asked for on the CPU.
        torch.use_deterministic_algorithms(device == "cpu")
        tokenizer = base_model.load_tokenizer(folder, name)
        self._renderer = Renderer(tokenizer)
        self._length_max = _shortest(settings.max_length, base_model.context_length(folder, tokenizer))
        self._seed = state.seed
        if generation_path or not model_path:
            self._kept_sample = read_kept_sample(self._disk, generation_path)
        try:
            self._loaded = self._on_device(folder, name, device, dtype, state, generation_path)
        except torch.OutOfMemoryError as error:
            raise EngineError("NF-TRAIN-004", f"the model does not fit into the memory of {device}") from error
        adapter = self._loaded.adapter
        trainable = sum(each.numel() for each in adapter.parameters.values())
        return EngineInfo(
            device=device,
            dtype=str(dtype).removeprefix("torch."),
            model=settings.model,
            parameters=sum(each.numel() for each in adapter.model.parameters()) - trainable,
            trainable=trainable,
            fingerprint=fingerprint,
            threads=threads,
        )

    def open_batch(self, path: str, cursor: Cursor, adapter_step: int) -> BatchPlan:  # noqa: ARG002 (the protocol's)
        assert self._renderer is not None, "a model is loaded before a batch is opened"
        settings = self._settings
        self._open = None
        try:
            tokens = read_batch(
                self._disk.chunks(path, CHUNK_BYTES), self._renderer, self._length_max, settings.over_long
            )
        except FileNotFoundError as error:
            raise EngineError("NF-TRAIN-001", f"{path} is gone") from error
        if not len(tokens):
            first = "; ".join(tokens.warnings) or "it holds no example"
            raise EngineError("NF-TRAIN-002", f"nothing in {cursor.name} can be trained: {first}")
        epochs = cursor.epochs or settings.epochs
        held_out, windows = hold_out(self._seed, cursor, tokens, settings)
        steps = order.plan(
            self._seed,
            cursor.digest,
            epochs,
            tokens.lengths,
            settings.batch_tokens,
            settings.batch_examples,
            frozenset(windows),
        )
        if cursor.step and (cursor.steps, cursor.held_out) != (len(steps), held_out):
            raise EngineError(
                "NF-TRAIN-003",
                f"{cursor.name} was interrupted at step {cursor.step} of {cursor.steps}, with {cursor.held_out} "
                f"examples held out, and now has {len(steps)} steps and {held_out} held out",
            )
        sample = order.evaluation_sample(self._seed, cursor.digest, len(tokens), frozenset(windows))
        self._open = _Open(tokens, steps, sample, windows, cursor.step)
        if not cursor.steps:  # a batch that was open before is in what its generation keeps
            self._kept_sample.add(cursor.digest, [window_of(*tokens.window(number)) for number in windows])
        trained = sum(tokens.trained_counts) - sum(tokens.trained_counts[number] for number in windows)
        learnt = sum(tokens.lengths) - sum(tokens.lengths[number] for number in windows)
        return BatchPlan(
            steps=len(steps),
            epochs=epochs,
            examples=tokens.examples,
            tokens_trained=epochs * trained,
            tokens_masked=epochs * (learnt - trained),
            tokens_cut=epochs * tokens.cut,
            warnings=tokens.warnings,
            held_out=held_out,
        )

    def step(self, adapter_step: int) -> Step:
        loaded, batch = self._both()
        numbers = batch.steps[batch.done]
        loaded.model.train()
        step = self._while_it_fits(batch, numbers, lambda: self._try_step(loaded, batch, numbers, adapter_step))
        loaded.generators.take_away()
        batch.done += 1
        return step

    def evaluate(self) -> float | None:
        loaded, batch = self._both()
        return self._measured(loaded, batch, batch.sample)

    def evaluate_held_out(self) -> float | None:
        loaded, batch = self._both()
        return self._measured(loaded, batch, batch.held_out) if batch.held_out else None

    def snapshot(self) -> Mapping[str, Buffer]:
        loaded = self._loaded
        assert loaded is not None, "there is nothing to snapshot before a load"
        return {**loaded.buffers.take(), CONFIG: loaded.config, HELD_OUT: self._kept_sample.content}

    def reuse(self, snapshot: Mapping[str, Buffer]) -> None:
        loaded = self._loaded
        if loaded is not None:
            loaded.buffers.give_back(snapshot)

    def close_batch(self) -> None:
        self._open = None

    def unload(self) -> None:
        if self._loaded is not None:
            self._loaded = self._open = self._renderer = None
            free_memory()

    def _generation(self, path: str) -> dict[str, bytes]:
        try:
            return {file: self._disk.read(f"{path}/{file}") for file in (CONFIG, WEIGHTS, OPTIMIZER, RNG)}
        except FileNotFoundError as error:
            raise EngineError("NF-MODEL-008", f"the generation lacks {Path(str(error.filename)).name}") from error

    def _on_device(
        self, folder: Path, name: str, device: str, dtype: torch.dtype, state: LearningState, generation_path: str
    ) -> _Loaded:
        files = self._generation(generation_path) if generation_path else {}
        base = base_model.load_model(folder, name, device, dtype)
        if self._settings.gradient_checkpointing:
            base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            base.enable_input_require_grads()
        seed = seed_of("adapter", state.seed, state.adapter_id)
        adapter = Adapter(base, self._settings, name, files.get(CONFIG), seed)
        optimizer = fresh_adamw(adapter.parameters, self._settings)
        generators = Generators(device, seed_of("dropout", state.seed, state.adapter_id))
        if files:
            adapter.read(files[WEIGHTS])
            read_optimizer(files[OPTIMIZER], optimizer, adapter.parameters)
            generators.read(files[RNG])
        precision = "bf16" if dtype == torch.bfloat16 else "no"
        return _Loaded(Accelerator(cpu=device == "cpu", mixed_precision=precision), adapter, optimizer, generators)

    def _while_it_fits(self, batch: _Open, numbers: list[int], attempt: Callable[[], T]) -> T:
        """``attempt``, again in pieces half the size each time it runs out of memory."""
        while True:
            try:
                return attempt()
            except RuntimeError as error:
                trouble = device_trouble(error)
                if trouble is not None:
                    raise trouble from error
                if not out_of_memory(error):
                    raise
            # Past the except block: while the error lives, its frames keep the activations alive.
            assert self._loaded is not None
            self._loaded.optimizer.zero_grad(set_to_none=True)
            free_memory()
            self._halve(batch, numbers)

    def _try_step(self, loaded: _Loaded, batch: _Open, numbers: list[int], adapter_step: int) -> Step:
        settings = self._settings
        # Put in place anew for each try, so that a second one meets the same noise as the first.
        loaded.generators.put_in_place()
        count = sum(batch.tokens.trained_counts[number] for number in numbers)
        total = torch.zeros((), device=loaded.accelerator.device)
        for piece in self._pieces(batch, numbers):
            loss = trained_loss(loaded.model, batch.tokens, piece) / count
            loaded.accelerator.backward(loss)
            total += loss.detach()
        norm = loaded.accelerator.clip_grad_norm_(loaded.adapter.parameters.values(), settings.grad_clip)
        rate = learning_rate(settings, adapter_step)
        # One look at the device for both numbers: each look waits for all that was sent there.
        loss_value, norm_value = torch.stack([total.double(), norm.double().to(total.device)]).tolist()
        finite = math.isfinite(loss_value) and math.isfinite(norm_value)
        if finite:
            for group in loaded.optimizer.param_groups:
                group["lr"] = rate
            loaded.optimizer.step()
        loaded.optimizer.zero_grad(set_to_none=True)
        return Step(
            loss=loss_value,
            learning_rate=rate,
            grad_norm=norm_value,
            tokens=count,
            skipped="" if finite else f"loss {loss_value}, gradient norm {norm_value}",
            micro_batch=batch.micro_batch or 0,
        )

    def _measured(self, loaded: _Loaded, batch: _Open, numbers: list[int]) -> float | None:
        loaded.model.eval()
        total = self._while_it_fits(batch, numbers, lambda: self._try_measure(loaded, batch, numbers))
        mean = total / sum(batch.tokens.trained_counts[number] for number in numbers)
        return mean if math.isfinite(mean) else None

    def _try_measure(self, loaded: _Loaded, batch: _Open, numbers: list[int]) -> float:
        total = 0.0
        with torch.no_grad():
            for piece in self._pieces(batch, numbers):
                total += trained_loss(loaded.model, batch.tokens, piece).item()
        return total

    def _pieces(self, batch: _Open, numbers: list[int]) -> list[list[int]]:
        lengths = batch.tokens.lengths
        return order.micro_batches(numbers, lengths, self._settings.micro_batch_tokens, batch.micro_batch)

    def _halve(self, batch: _Open, numbers: list[int]) -> None:
        largest = max(len(piece) for piece in self._pieces(batch, numbers))
        if largest == 1:
            tokens = max(batch.tokens.lengths[number] for number in numbers)
            raise EngineError("NF-TRAIN-004", f"out of memory with one example of {tokens} tokens at a time")
        batch.micro_batch = largest // 2

    def _both(self) -> tuple[_Loaded, _Open]:
        assert self._loaded is not None, "a model is loaded"
        assert self._open is not None, "a batch is open"
        return self._loaded, self._open


def learning_rate(settings: TrainerSettings, adapter_step: int) -> float:
    """Linear from the adapter's first step on, then constant: no horizon that could move."""
    return settings.learning_rate * min(1.0, (adapter_step + 1) / max(1, settings.warmup_steps))


def _shortest(*lengths: int | None) -> int | None:
    return min((length for length in lengths if length is not None), default=None)


def _portable(disk: DiskPort, name: str) -> str:
    """``name`` as the config has it; a folder in the home by its place there, for the home may be moved."""
    path, home = Path(name), disk.real_path(".").resolve()
    return path.relative_to(home).as_posix() if path.is_absolute() and path.is_relative_to(home) else name
