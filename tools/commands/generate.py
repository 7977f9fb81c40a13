"""Asks a model, with or without an adapter on it, and gives its answer.

Guarantees that the same weights give the same answer (greedy), and that the prompt is rendered as training renders
it. Knows nothing of homes or of which state is in force.
"""

from __future__ import annotations

from pathlib import Path

from actors.trainer.engine import EngineError
from actors.trainer.settings import TrainerSettings
from runtime.disk import Disk
from runtime.errors import EXIT_FAILED, OperatorError


def generate(base_dir: Path | str, adapter_dir: Path | None, prompt: str, max_new_tokens: int = 80) -> str:
    """The answer of the model in ``base_dir`` (or of that hub id) to ``prompt``, at most ``max_new_tokens`` long.

    Raises:
        OperatorError: NF-MODEL-…, the model or the adapter cannot be loaded.
    """
    try:
        return _generate(str(base_dir), adapter_dir, prompt, max_new_tokens)
    except EngineError as error:
        hint = f"nightfold explain {error.code}"
        raise OperatorError(error.code, error.why, hint=hint, exit_code=EXIT_FAILED) from error


def _generate(name: str, adapter_dir: Path | None, prompt: str, max_new_tokens: int) -> str:
    import torch
    from peft import PeftModel
    from safetensors import SafetensorError

    from actors.trainer import base_model
    from actors.trainer.rendering import Renderer

    folder = base_model.base_folder(Disk(Path.cwd()), name)
    settings = TrainerSettings(model=name)
    device = base_model.choose_device(settings)
    tokenizer = base_model.load_tokenizer(folder, name)
    model = base_model.load_model(folder, name, device, base_model.choose_dtype(settings, device))
    if adapter_dir is not None:
        try:
            model = PeftModel.from_pretrained(model, str(adapter_dir))
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            first = str(error).partition("\n")[0]
            raise EngineError("NF-MODEL-008", f"the adapter in {adapter_dir} cannot be loaded: {first}") from error
    model.eval()
    ids = Renderer(tokenizer).prompt_ids([{"role": "user", "content": prompt}])
    asked = torch.tensor([ids], device=device)
    with torch.inference_mode():
        said = model.generate(
            input_ids=asked,
            attention_mask=torch.ones_like(asked),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            use_cache=True,
            pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
        )
    return str(tokenizer.decode(said[0, len(ids) :], skip_special_tokens=True)).strip()
