"""A trainer of the older kind, in as few lines as it takes: PEFT, plain torch AdamW and a schedule of transformers.

It shares no code with Nightfold but the tiny model, so that what a move makes of its files can be held against what it
would have done itself.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import torch

RATE = 5e-3
WARMUP = 3
BATCH = 4


class OldTrainer:
    """A home at ``folder`` that trains an adapter on the model at ``base``."""

    def __init__(self, folder: Path, base: Path, *, seed: int = 0, named: str | None = None) -> None:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM, get_scheduler

        self.folder = folder
        torch.manual_seed(seed)
        config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries have advice for one another
            model = AutoModelForCausalLM.from_pretrained(str(base))
            model.name_or_path = named or str(base)
            self.model = get_peft_model(model, config)
        self.optimizer = self.make_optimizer()
        self.scheduler = get_scheduler("constant_with_warmup", self.optimizer, num_warmup_steps=WARMUP)
        self.global_step = self.adapter_step = 0

    @property
    def parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        """What is trained, as PEFT would name it in its file."""
        trained = [(name, each) for name, each in self.model.named_parameters() if each.requires_grad]
        return [(name.replace(".default.", "."), each) for name, each in trained]

    def make_optimizer(self) -> torch.optim.AdamW:
        return torch.optim.AdamW([each for _, each in self.parameters], lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)

    def learn(self, steps: int) -> None:
        """So many steps on random tokens, each of another size of gradient."""
        for _ in range(steps):
            ids = torch.randint(5, 4000, (2, 24), generator=torch.Generator().manual_seed(self.global_step))
            self.step(ids, ids)

    def step(self, ids: torch.Tensor, labels: torch.Tensor) -> None:
        self.model.train()
        self.model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_([each for _, each in self.parameters], 1.0)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        self.global_step += 1
        self.adapter_step += 1

    def save(self, place: str = "current_model") -> Path:
        folder = self.folder / place
        self.model.save_pretrained(str(folder))
        torch.save(self.optimizer.state_dict(), folder / "optimizer.pt")
        torch.save(self.scheduler.state_dict(), folder / "scheduler.pt")
        state = {"global_step": self.global_step, "adapter_step": self.adapter_step, "log_history": []}
        (folder / "trainer_state.json").write_text(json.dumps(state))
        return folder

    def merge(self, stamp: str, base: Path) -> Path:
        """A consolidation of the older kind, without its second half, the fresh adapter."""
        merged = self.folder / "consolidated_models" / stamp
        with torch.no_grad():
            self.model.merge_adapter()
            plain = {
                name.replace(".base_layer", ""): each.clone().contiguous()
                for name, each in self.model.get_base_model().state_dict().items()
                if "lora_" not in name
            }
            self.model.unmerge_adapter()
        from transformers import AutoModelForCausalLM, AutoTokenizer

        whole = AutoModelForCausalLM.from_pretrained(str(base))
        whole.load_state_dict(plain)
        whole.save_pretrained(str(merged))
        AutoTokenizer.from_pretrained(str(base)).save_pretrained(str(merged))
        (self.folder / ".last_consolidation").write_text(stamp)
        return merged

    def write_config(self, base: Path, **more: Any) -> None:
        config = {"model_path": str(base), "learning_rate": RATE, "warmup_steps": WARMUP, "batch_size": BATCH, **more}
        (self.folder / "config.json").write_text(json.dumps(config))


def tree_digest(folder: Path) -> str:
    """Of every name, kind, content, mode and time of change below ``folder``."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found = path.lstat()
        digest.update(f"{path.relative_to(folder)}\0{found.st_mode}\0{found.st_mtime_ns}\0".encode())
        if path.is_symlink():
            digest.update(str(path.readlink()).encode())
        elif path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
