"""What rots is found and made anew: some hours after any trouble, merged models are what was committed."""

from __future__ import annotations

from runtime.manifest import FolderDamaged, verify_folder
from runtime.simulation.trial import Moment, Trial, Violation
from tools.simulated_house.checkers.evidence import read_head

HEALED_SECONDS = 6 * 3600.0
"""A round of the scrub, the next piece of it, and a merge that is lost a few times."""


class MergedModelsAreHealed:
    """Every model that HEAD has a digest of, read to its last byte wherever something has changed."""

    promise = "a damaged model is healed"
    when: tuple[Moment, ...] = ("quiet", "end")

    def __init__(self) -> None:
        self._sound: dict[tuple[str, str], object] = {}

    def check(self, trial: Trial) -> None:
        head, life = read_head(trial.disk), trial.life
        began = life.began if life is not None else trial.now
        if head is None or not trial.undisturbed_for(HEALED_SECONDS):
            return
        if life is not None and life.seconds - began < HEALED_SECONDS:
            return
        for model in head.models():
            state = trial.disk.state_of(model.path)
            if not model.digest or (state is not None and self._sound.get((model.path, model.digest)) is state):
                continue
            try:
                verify_folder(trial.disk, model.path, model.digest)
            except FolderDamaged as damage:
                raise Violation(f"{damage}, and nobody healed it") from damage
            self._sound[model.path, model.digest] = state
