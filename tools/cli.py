"""The command line: reads what was typed and hands it to the one module that does it.

Nothing is imported here but what parsing needs, and each command imports its own module only when it is
typed: so ``--help`` and ``status`` answer at once, and only ``run``, ``generate`` and their like ever wait
for torch. An operator's mistake ends in one line, a hint and an exit code; anything else is a bug and keeps
its traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

_EPILOG = """\
a first evening:
  nightfold init my-home --tiny          a home with a tiny model, nothing to download
  nightfold run my-home                  the daemon; leave it running
  nightfold submit my-home chats.jsonl   from another terminal
  nightfold status my-home --watch
  nightfold generate my-home "Hello"

exit codes: 0 done  1 failed  2 usage  3 done, but a file was rejected or failed  4 unhealthy
  65 bad data  70 the daemon gave up  74 I/O or disk  75 the home is locked  78 bad config
HOME is any folder with a nightfold.toml. Codes like NF-DATA-001: nightfold explain CODE
"""

Run = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    # A file's name may hold bytes that are no text; it is shown with escapes rather than not at all.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    run: Run = arguments.run
    from runtime.errors import OperatorError

    try:
        code = run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`). Python would complain once more when it
        # flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OperatorError as error:
        print(f"nightfold: {error}", file=sys.stderr)
        return error.exit_code
    return code


def _init(given: argparse.Namespace) -> int:
    from tools.commands.init import init

    return init(given.home, given.model, given.tiny)


def _import(given: argparse.Namespace) -> int:
    from tools.commands.import_home import import_home

    return import_home(given.old, given.home, base=given.base, fresh_optimizer=given.fresh_optimizer)


def _run(given: argparse.Namespace) -> int:
    from tools.daemon import run

    return run(given.home, given.until_idle)


def _submit(given: argparse.Namespace) -> int:
    from tools.commands.submit import submit

    return submit(given.home, given.files)


def _check(given: argparse.Namespace) -> int:
    from tools.commands.check import check

    return check(given.files, given.model, given.json, sys.stdout)


def _retry(given: argparse.Namespace) -> int:
    from tools.commands.retry import retry

    return retry(given.home, given.names)


def _status(given: argparse.Namespace) -> int:
    from tools.commands.status import status

    return status(given.home, given.json, given.watch)


def _control(given: argparse.Namespace) -> int:
    from tools.commands import control

    wish: Callable[[Path, float], int] = getattr(control, given.command)
    return wish(given.home, given.wait)


def _history(given: argparse.Namespace) -> int:
    if given.pin is not None or given.unpin is not None:
        from tools.commands.pin import pin

        return pin(given.home, given.pin if given.pin is not None else given.unpin, pinned=given.pin is not None)
    from tools.commands.history import history

    return history(given.home, given.json)


def _rollback(given: argparse.Namespace) -> int:
    from tools.commands.rollback import rollback

    return rollback(given.home, given.target)


def _generate(given: argparse.Namespace) -> int:
    from tools.commands.ask import generate_command

    return generate_command(given.home, given.prompt, given.base, given.max_new_tokens)


def _merge(given: argparse.Namespace) -> int:
    from tools.commands.merge import merge_command

    return merge_command(given.base, given.adapter, given.out)


def _ps(given: argparse.Namespace) -> int:
    from tools.commands.ps import ps

    return ps(given.home, given.json, given.watch)


def _trace(given: argparse.Namespace) -> int:
    from tools.commands.trace import trace

    return trace(
        given.home,
        given.view,
        given.argument,
        given.out,
        follow=given.follow,
        run=given.run_number,
        incarnation=given.incarnation,
    )


def _doctor(given: argparse.Namespace) -> int:
    if given.what_would_be_deleted:
        from tools.commands.what_would_be_deleted import what_would_be_deleted

        return what_would_be_deleted(given.home, given.json)
    from tools.commands.doctor import doctor

    return doctor(given.home, given.json, deep=given.deep)


def _explain(given: argparse.Namespace) -> int:
    from tools.commands.explain import explain

    return explain(given.code)


def _demo(given: argparse.Namespace) -> int:
    from tools.commands.demo import demo

    return demo(given.keep)


class _Version(argparse.Action):
    """Prints the version; looks it up only when asked, for that costs more than all of the parsing."""

    def __call__(self, parser: argparse.ArgumentParser, *_rest: object) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version

        from runtime.hot import is_compiled

        try:
            words = version("nightfold")
        except PackageNotFoundError:
            words = "(a source tree that is not installed)"
        print(f"nightfold {words}{', hot paths compiled' if is_compiled() else ''}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nightfold",
        description="Keeps one language model learning: drop JSONL files into a folder; it checks each, trains a LoRA "
        "adapter on it, checkpoints so that nothing is lost, and at night folds the adapter into the model.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")

    def command(name: str, run: Run, does: str, example: str, *, home: bool = True) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=does,
            description=f"{does[0].upper()}{does[1:]}.",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.set_defaults(run=run)
        if home:
            added.add_argument("home", type=Path, metavar="HOME", help="the folder with nightfold.toml")
        return added

    def json_too(added: argparse.ArgumentParser) -> None:
        added.add_argument("--json", action="store_true", help="print JSON for programs")

    added = command("init", _init, "make a home", "nightfold init my-home --model Qwen/Qwen3-0.6B")
    which = added.add_mutually_exclusive_group()
    which.add_argument("--model", metavar="PATH-OR-ID", help="a model's folder, or its id on the Hugging Face hub")
    which.add_argument("--tiny", action="store_true", help="build a small model on the spot; nothing is downloaded")

    added = command(
        "import",
        _import,
        "move in from an older kind of trainer; its folder is only read",
        "nightfold import old-trainer my-home",
        home=False,
    )
    added.add_argument("old", type=Path, metavar="OLD_DIR", help="the older trainer's folder, with current_model/")
    added.add_argument("home", type=Path, metavar="HOME", help="a new folder, or a home that learnt nothing")
    added.add_argument("--base", metavar="DIR", help="the model the adapter was trained on, if not the one found")
    added.add_argument(
        "--fresh-optimizer", action="store_true", help="begin with fresh moments, without opening the old optimizer"
    )

    added = command("run", _run, "run the daemon in the foreground", "nightfold run my-home")
    added.add_argument("--until-idle", action="store_true", help="exit once everything dropped is trained")

    added = command(
        "submit", _submit, "put files into the inbox, never half-written", "nightfold submit my-home a.jsonl b.jsonl"
    )
    added.add_argument("files", type=Path, nargs="+", metavar="FILE", help="*.jsonl files; they are copied")

    added = command(
        "check",
        _check,
        "check files without training, with a model show what it would learn",
        "nightfold check chats.jsonl --model my-home/model",
        home=False,
    )
    added.add_argument("files", type=Path, nargs="+", metavar="FILE", help="*.jsonl files")
    added.add_argument("--model", metavar="DIR", help="show each example rendered, and which tokens are trained")
    json_too(added)

    added = command(
        "retry", _retry, "put failed or mended files back into the inbox", "nightfold retry my-home failed/chats.jsonl"
    )
    added.add_argument("names", nargs="+", metavar="NAME", help="a name in failed/ or rejected/")

    added = command("status", _status, "tell what the daemon is doing", "nightfold status my-home --watch")
    json_too(added)
    added.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C")

    for name, does, wait_s in (
        ("pause", "hold training after the step in hand, until resume", 30.0),
        ("resume", "go on after pause", 30.0),
        ("stop", "finish the step in hand, checkpoint and end the daemon", 120.0),
        ("consolidate", "fold the adapter in as soon as nothing trains, without waiting for the night", 30.0),
    ):
        added = command(name, _control, does, f"nightfold {name} my-home --wait 60")
        added.add_argument(
            "--wait",
            type=_seconds,
            default=wait_s,
            metavar="SECONDS",
            help=f"how long to wait until it took effect (default {wait_s:g})",
        )

    added = command(
        "history", _history, "list what was learnt and what one can go back to", "nightfold history my-home --pin 41"
    )
    json_too(added)
    what = "a generation's number, a night's name or a snapshot's date"
    wish = added.add_mutually_exclusive_group()
    wish.add_argument("--pin", metavar="TARGET", help=f"keep it whatever the bounds say: {what}")
    wish.add_argument("--unpin", metavar="TARGET", help="leave it to the bounds again")
    added = command(
        "rollback", _rollback, "go back to a kept generation, night or snapshot", "nightfold rollback my-home 41"
    )
    added.add_argument("target", metavar="TARGET", help="as history lists it: 41, 20261123T030000, or 2026-11-23")

    added = command("generate", _generate, "ask the model in force", 'nightfold generate my-home "What is a night?"')
    added.add_argument("prompt", metavar="PROMPT")
    added.add_argument("--base", action="store_true", help="ask the pristine base instead, to compare")
    added.add_argument(
        "--max-new-tokens", type=_positive, default=200, metavar="N", help="at most so long an answer (default 200)"
    )

    added = command(
        "merge",
        _merge,
        "merge PEFT adapters into a model, tensor by tensor, in little memory",
        "nightfold merge --base model --adapter a1 --adapter a2 --out merged",
        home=False,
    )
    added.add_argument("--base", type=Path, required=True, metavar="DIR", help="the model's folder; it is only read")
    added.add_argument(
        "--adapter",
        type=Path,
        required=True,
        action="append",
        metavar="DIR",
        help="an adapter's folder; again for each one, oldest first",
    )
    added.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write; must not exist yet")

    added = command(
        "ps", _ps, "show the actors of a running daemon, and what each does or waits for", "nightfold ps my-home"
    )
    json_too(added)
    added.add_argument("--watch", action="store_true", help="again every second, until Ctrl-C")

    added = command(
        "trace", _trace, "see which messages passed between the actors", "nightfold trace my-home show 000017"
    )
    added.add_argument(
        "view",
        choices=("tail", "list", "show", "sequence", "perfetto", "replay", "record"),
        help="tail: the newest; list: the recorded runs; show BATCH: one file's way; sequence: a diagram; "
        "perfetto: for ui.perfetto.dev; replay ACTOR: feed an actor what it got; "
        "record [on or off]: is it written to disk, and shall it be?",
    )
    added.add_argument("argument", nargs="?", metavar="BATCH|ACTOR|on|off", help="for show, replay and record")
    added.add_argument(
        "--follow", action="store_true", help="tail: go on until Ctrl-C or the daemon ends, as on a terminal"
    )
    added.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to the terminal")
    added.add_argument(
        "--run", dest="run_number", type=_number_or_all, metavar="N|all", help="one run of those that list shows"
    )
    added.add_argument(
        "--incarnation", type=_number_or_all, metavar="N|all", help="for replay: which of the actor's lives in the run"
    )

    added = command(
        "doctor",
        _doctor,
        "check everything there is, and say what to do about each finding",
        "nightfold doctor my-home --deep",
    )
    added.add_argument(
        "--what-would-be-deleted", action="store_true", help="instead, list what retention would take now, and why"
    )
    added.add_argument("--deep", action="store_true", help="read every byte, of the base model too; this may take long")
    json_too(added)
    added = command(
        "explain", _explain, "tell what an error code means and what to do", "nightfold explain NF-CONF-001", home=False
    )
    added.add_argument("code", nargs="?", metavar="CODE", help="without it, all are listed")
    added = command(
        "demo",
        _demo,
        "the whole story on a tiny model, in about a minute",
        "nightfold demo --keep demo-home",
        home=False,
    )
    added.add_argument("--keep", type=Path, metavar="DIR", help="make the demo's home there and keep it")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1e9:
        raise ValueError
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _number_or_all(text: str) -> int | str:
    return text if text == "all" else _positive(text)


# argparse names the type in its message: "invalid number of seconds value" would be the function's own name.
_seconds.__name__ = "seconds"
_positive.__name__ = "positive number"
_number_or_all.__name__ = "number of a run or an incarnation"


if __name__ == "__main__":
    sys.exit(main())
