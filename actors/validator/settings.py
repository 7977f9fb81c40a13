"""The ``[validator]`` section of the config: how strict to be with a dropped file.

Guarantees that a value which came through ``msgspec.convert`` is within bounds.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class ValidatorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person may set under ``[validator]``.

    Attributes:
        bad_lines: what to do with a file of which only some lines are good.
        max_line_bytes: a longer line is an error. 16 MiB is the most, and what the Trainer reads by: so no line that
            was checked here is ever too long there.
        same_content: what to do with a file whose bytes were trained before.
        max_errors_listed: how many findings are listed with their lines; all are counted.
    """

    bad_lines: Literal["reject_file", "train_good_lines"] = "reject_file"
    max_line_bytes: Annotated[int, Meta(ge=1 << 10, le=16 << 20)] = 16 << 20
    same_content: Literal["train", "skip"] = "train"
    max_errors_listed: Annotated[int, Meta(ge=1, le=1000)] = 20
