"""``nightfold demo``: the whole story on a tiny model, told while it happens.

It is no film: a real home, the real daemon in a process of its own, a real SIGKILL, a real merge. At the end what
the daemon left is checked, and the exit code says whether all of it was so.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime.errors import EXIT_DONE, EXIT_FAILED
from tools.commands.home import CONFIG, read_status, shown
from tools.commands.init import init
from tools.demo_checks import Found, faults, head_of, receipts_in, reports_in
from tools.demo_daemon import DemoDaemon, WaitFailed
from tools.demo_files import BROKEN, KILLED, REWORDED, TAUGHT, demo_files
from tools.demo_files import CONFIG as DEMO_CONFIG

KILL_AT_STEP = 12
SHOW_EVERY_STEPS = 6
ANSWER_TOKENS = 24
ANSWER_SHOWN = 60
# On two quiet cores the longest of these waits takes ten seconds. They are for machines that are not quiet.
WAIT_SECONDS = 240.0
_GOES_ON = re.compile(r"goes on at step (\d+) of")


def demo(keep: Path | None) -> int:
    """Tell the story in a temporary home, or in ``keep``, which is kept."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched, so nothing should try
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    folder = Path(tempfile.mkdtemp(prefix="nightfold-demo-")) if keep is None else None
    home = (folder / "home" if folder else keep or Path()).resolve()
    story = _Story(home)
    kept = True
    # Whoever ends the demo ends its daemon too: a SIGTERM unwinds as Ctrl-C does.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        wrong = story.tell()
        kept = bool(wrong) or keep is not None
    except WaitFailed as error:
        wrong = [str(error)]
    except KeyboardInterrupt:
        kept = keep is not None
        raise
    finally:
        story.close()
        signal.signal(signal.SIGTERM, before)
        if folder is not None and not kept:
            shutil.rmtree(folder, ignore_errors=True)
    if wrong:
        _say("\nThe demo did not keep its word:\n" + "\n".join(f"  - {fault}" for fault in wrong))
        _say(f"Its home is kept: {home}   (look with: nightfold doctor {home})")
        return EXIT_FAILED
    story.end(kept)
    return EXIT_DONE


class _Story:
    """One telling."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._daemon: DemoDaemon | None = None
        self._lines: list[str] = []
        self._shown = ("", 0)
        self._began = time.monotonic()

    def tell(self) -> list[str]:
        """All of it; returns what was not as it should be."""
        before = self._make_home()
        self._drop_files()
        crashed_state = self._train_and_kill()
        self._go_on()
        self._night()
        after = self._ask_again(before)
        exit_code = self._stop()
        resumed = [int(match[1]) for line in self._lines if (match := _GOES_ON.search(line))]
        found = Found(
            receipts=receipts_in(self._home),
            reports=reports_in(self._home / "rejected"),
            failed=tuple(reports_in(self._home / "failed")),
            head=head_of(self._home),
            crashed_state=crashed_state,
            resumed_at=resumed[0] if resumed else 0,
            before=before,
            after=after,
            exit_code=exit_code,
        )
        trained = tuple(name for name in demo_files() if name != BROKEN)
        return faults(found, trained=trained, rejected=(BROKEN,), killed=KILLED, taught=TAUGHT)

    def close(self) -> None:
        """Leave no process behind."""
        if self._daemon is not None:
            self._daemon.close()

    # The steps.

    def _make_home(self) -> dict[str, str]:
        _say("Nightfold's whole story with a tiny model: it takes about a minute, and nothing is downloaded.")
        _step(1, "Make a home: a folder with a config and, here, a small model with random weights.")
        _say(f"     $ nightfold init {self._home} --tiny")
        with _indented():
            init(self._home, None, tiny=True)
        (self._home / CONFIG).write_text(DEMO_CONFIG, encoding="utf-8")
        _say("\n   It was never trained on anything, so it only babbles:")
        before = self._answers(*TAUGHT)
        for question, answer in before.items():
            _say(f"     {question}\n       {_cut(answer)}")
        return before

    def _drop_files(self) -> None:
        _step(2, "Drop four files into its inbox: plain text, prompts with completions, chats, and one that is broken.")
        for name, content in demo_files().items():
            part = self._home / "inbox" / f".{name}.part"
            part.write_text(content, encoding="utf-8")
            part.rename(self._home / "inbox" / name)
            first = content.partition("\n")[0]
            _say(f"     {name:<13} {content.count(chr(10)):>2} lines   {textwrap.shorten(first, 76, placeholder=' …')}")

    def _train_and_kill(self) -> str:
        _step(3, "Start the daemon. It checks every line first, and then trains: see the loss fall.")
        daemon = self._start()
        daemon.until(self._in_the_middle, f"{KILLED} was half trained", WAIT_SECONDS)
        _step(4, "Kill it in the middle of a file, as a power cut would.")
        _say(f"     $ kill -9 {daemon.pid}")
        daemon.kill()
        state = str(read_status(self._home)["state"])
        self._command("status", str(self._home))
        return state

    def _go_on(self) -> None:
        _step(5, "Start it again. It goes on at the last checkpoint, with the optimizer and the order as they were.")
        trained = len(demo_files()) - 1
        self._start().until(
            lambda: (status := self._status())["state"] == "idle" and status["counts"]["trained"] == trained,
            "everything was trained",
            WAIT_SECONDS,
        )

    def _night(self) -> None:
        _step(
            6,
            "Call the night early: the adapter is folded into the base, the result is proven, a fresh adapter begins.",
        )
        assert self._daemon is not None, "it was started again"
        self._command("consolidate", str(self._home), "--wait", "0")
        self._daemon.until(self._night_is_over, "the night was over", WAIT_SECONDS)

    def _ask_again(self, before: dict[str, str]) -> dict[str, str]:
        _step(7, "Ask again. The fresh adapter is empty: what is known now stands in the model itself.")
        after = self._answers(*TAUGHT, REWORDED)
        for question, answer in before.items():
            _say(f"     {question}\n       before  {_cut(answer)}\n       after   {_cut(after[question])}")
        _say(f"     {REWORDED}   (asked so in none of the files)\n       after   {_cut(after[REWORDED])}")
        return after

    def _stop(self) -> int:
        _step(8, "See what was learnt and what one can go back to, then stop the daemon in order.")
        self._command("history", str(self._home))
        self._command("stop", str(self._home))
        assert self._daemon is not None, "it was started again"
        return self._daemon.ended()

    def end(self, kept: bool) -> None:
        """What it was all about."""
        seconds = time.monotonic() - self._began
        _say(f"\nWhat you just saw, checked and true, in {seconds:.0f} s:")
        for line in (
            "three files were trained, and their receipts in trained/ say by how much the loss fell;",
            "a broken one was refused before any training, with its lines named, and lies in rejected/;",
            "the daemon was killed in the middle of a file and lost no more than the steps since its last checkpoint;",
            "the night folded the adapter into the base and proved the merged model before it came in force;",
            "HEAD is one small file: replacing it is every commit, so going back is no more than that.",
        ):
            _say(f"  - {line}")
        home = str(self._home) if kept else "my-home"
        _say("\nGo on with:")
        if not kept:
            _say(f"  nightfold init {home} --tiny          or --model with a folder or a hub id")
        _say(f"  nightfold run {home}\n  nightfold submit {home} chats.jsonl\n  nightfold status {home} --watch")

    # How it is told.

    def _start(self) -> DemoDaemon:
        _say(f"     $ nightfold run {self._home}")
        self._daemon = DemoDaemon(self._home, self._show_line)
        return self._daemon

    def _show_line(self, line: str) -> None:
        self._lines.append(line)
        _say(f"     | {line}")

    def _status(self) -> dict[str, Any]:
        """The status, shown as a line when the batch has got on."""
        status = read_status(self._home)
        batch = status["batch"]
        if not status["pid"] or not isinstance(batch, dict) or batch["loss"] is None:
            return status
        name, step = self._shown
        # The file is a moment older than the lines: what was told as trained is no news.
        over = any(f"trained    {batch['name']}:" in line for line in self._lines)
        if not over and (batch["name"] != name or batch["step"] >= step + SHOW_EVERY_STEPS):
            self._shown = (batch["name"], batch["step"])
            where = f"step {batch['step']} of {batch['steps']}"
            _say(f"     |           {batch['name']}: {where}, loss {batch['loss']:.3f}")
        return status

    def _in_the_middle(self) -> bool:
        """The file to be killed is well under way, some of it is committed and some is not yet."""
        batch = self._status()["batch"]
        if not isinstance(batch, dict) or batch["name"] != KILLED or batch["step"] < KILL_AT_STEP:
            return False
        head = head_of(self._home)
        return head is not None and head.in_force.why == "interval" and head.in_force.last_batch == batch["batch"]

    def _night_is_over(self) -> bool:
        status = self._status()
        error = status["last_error"]
        if error is not None and str(error["code"]).startswith(("NF-MERGE-", "NF-DISK-")):
            raise WaitFailed(f"the night was refused: {error['message']} [{error['code']}]")
        return bool(status["last_consolidation"]) and status["state"] == "idle"

    def _answers(self, *questions: str) -> dict[str, str]:
        from tools.commands.ask import model_in_force
        from tools.commands.generate import generate

        model, adapter = model_in_force(self._home)
        return {question: generate(model, adapter, question, ANSWER_TOKENS) for question in questions}

    def _command(self, *argv: str) -> None:
        """A command as a person would type it, run in this process: a new one would spend seconds on imports."""
        from tools.cli import main

        _say(f"     $ nightfold {' '.join(argv)}")
        with _indented():
            code = main(argv)
        if code != EXIT_DONE:
            raise WaitFailed(f"nightfold {argv[0]} ended with exit code {code}")


@contextlib.contextmanager
def _indented() -> Iterator[None]:
    """What is printed meanwhile is told a little further in."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            yield
    finally:
        for line in told.getvalue().splitlines():
            _say(f"       {line}".rstrip())


def _step(number: int, words: str) -> None:
    bold = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    begin, end = ("\x1b[1m", "\x1b[0m") if bold else ("", "")
    _say(f"\n{begin}{number}. {words}{end}")


def _cut(answer: str) -> str:
    """An answer on one line, as safe to print as any name: an untrained model may say anything."""
    words = shown(" ".join(answer.split()))
    return words if len(words) <= ANSWER_SHOWN else f"{words[:ANSWER_SHOWN]} …"


def _say(words: str) -> None:
    print(words, flush=True)
