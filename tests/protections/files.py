"""What protects files that are dropped (rows f4 to f9), and how each protection is taken out."""

from __future__ import annotations

from tests.protections.campaign import gone

INSPECTION = "actors/validator/inspection.py"
VALIDATOR = "actors/validator/actor.py"
TRAINER = "actors/trainer/actor.py"
WATCHER = "actors/inbox_watcher/actor.py"
FILING = "actors/inbox_watcher/filing.py"
SURVEY = "actors/inbox_watcher/survey.py"
REPORTER_LINES = "actors/status_reporter/lines.py"
DURABLE = "runtime/durable.py"
DISK = "runtime/disk.py"
CHECK = "tools/commands/check.py"
SUBMIT = "tools/commands/submit.py"
HOME = "tools/commands/home.py"

REMOVALS = (
    gone(
        "f4 f8",
        "who writes is asked, and where nobody can say it settles",
        (SURVEY, "return unchanged_for >= settle_seconds if writing is None else not writing", "return True"),
        tests="f4_an_upload f4_a_file_that_is f4_cp f8_where",
    ),
    gone(
        "f4",
        "a file must be quiet for a while",
        (SURVEY, "if now - since < quiet_seconds:", "if False:"),
        tests="f4_a_file_is f4_every",
    ),
    gone(
        "f4",
        "any change begins the quiet time anew",
        (
            SURVEY,
            "since = earlier.since if earlier is not None and same else now",
            "since = earlier.since if earlier is not None else now",
        ),
        tests="f4_every",
    ),
    gone(
        "f4",
        "hidden and unfinished names are left alone",
        (SURVEY, ' and not name.startswith((".", "~"))', ""),
        tests="f4_hidden f4_unfinished",
    ),
    gone(
        "f4",
        "a submitted file is synced before it gets its name",
        (SUBMIT, "                os.fsync(copy.fileno())\n", ""),
        tests="f4_the_file",
    ),
    gone(
        "f5",
        "no more are claimed than are wanted",
        (WATCHER, "len(self._claimed) >= self.settings.claims_max or not await", "not await"),
        (WATCHER, "wanted = max(0, settings.claims_max - len(self._claimed))", "wanted = 1 << 30"),
        tests="f5_no_more f5_only",
    ),
    gone(
        "f5",
        "only some names are told",
        (WATCHER, "waiting=tuple(map(shown, waiting[:NAMES_TOLD])),", "waiting=tuple(map(shown, waiting)),"),
        tests="f5_only",
    ),
    gone(
        "f5",
        "files come in the order of their arrival",
        (SURVEY, "key=lambda entry: entry[:2])", "key=lambda entry: entry[:2], reverse=True)"),
        tests="f5_files f5_a_rename f5_ten",
    ),
    gone(
        "f5",
        "no more are looked at closely than are wanted",
        (SURVEY, "elif len(ready) >= wanted:", "elif False:"),
        tests="f5_of_ten",
    ),
    gone(
        "f5",
        "a file is read in pieces",
        (INSPECTION, "disk.chunks(path, CHUNK_BYTES)", "disk.chunks(path, 1 << 30)"),
        tests="f5_a_file",
    ),
    gone(
        "f6",
        "a name that is taken is numbered",
        (FILING, "if owner == claimed.batch or (", "if owner is not None or ("),
        tests="f6_the_same_name",
    ),
    gone(
        "f6",
        "a paper that is not ours is somebody's",
        (FILING, 'return ""  # somebody', "return None  # somebody"),
        tests="f6_a_foreign",
    ),
    gone(
        "f6",
        "a file that is not ours is somebody's",
        (FILING, '(owner is None and disk.stat(f"{folder}/{name}") is None)', "owner is None"),
        tests="f6_a_persons",
    ),
    gone(
        "f6",
        "content is compared with what was trained",
        (
            VALIDATOR,
            'return earlier.name if earlier is not None and earlier.batch != claimed.batch else ""',
            'return ""',
        ),
        tests="f6_the_same_content f6_the_same_name_dropped",
    ),
    gone(
        "f6",
        "a file does not repeat itself",
        (VALIDATOR, " and earlier.batch != claimed.batch else", " else"),
        tests="f6_a_batch",
    ),
    gone(
        "f6",
        "what is trained is remembered",
        (VALIDATOR, "self._trained[receipt.digest] = _Digest(receipt.batch, receipt.name, receipt.digest)", "pass"),
        tests="f6_what_was",
    ),
    gone(
        "f6",
        "a file that waits is never replaced",
        (SUBMIT, "        if os.path.lexists(target):\n            continue\n", ""),
        (SUBMIT, "            put_in_place(part, target)\n", "            part.rename(target)\n"),
        tests="f6_a_name",
    ),
    gone(
        "f7",
        "what is claimed is known for what it is",
        (FILING, 'found.kind if found else "file")', '"file")'),
        tests="f7_what_is_no f7_links_and_folders_are_refused",
    ),
    gone(
        "f7",
        "links and folders are odd",
        (SURVEY, 'elif found.kind != "file":', "elif False:"),
        tests="f7_links_and_folders_are_odd",
    ),
    gone(
        "f7",
        "what is no file is refused with a report",
        (WATCHER, 'if found.kind == "file":', 'if found.kind in ("file", "dir"):'),
        tests="f7_links",
    ),
    gone(
        "f7",
        "a paper's name is cut to what a file system takes",
        (FILING, 'if len(whole.encode("utf-8", "surrogateescape")) <= NAME_BYTES_MAX:', "if True:"),
        tests="f7_any f7_two f7_odd_names_are_trained f7_a_long",
    ),
    gone(
        "f7",
        "bytes that are no text become question marks",
        (
            SURVEY,
            '    return name.encode("utf-8", "surrogateescape")',
            '    return name\n    return name.encode("utf-8", "surrogateescape")',
        ),
        tests="f7_a_name_that_is_no_text f7_any",
    ),
    gone(
        "f7",
        "names are kept as the file system has them",
        (
            DISK,
            "return sorted(os.listdir(self.home / path))",
            "return sorted(name for name in os.listdir(self.home / path) if name.isascii())",
        ),
        tests="f7_a_name_that_is_not f7_odd_names_are_trained",
    ),
    gone(
        "f7",
        "an ending is read in any case",
        (SURVEY, "name.lower().endswith(BATCH_SUFFIX)", "name.endswith(BATCH_SUFFIX)"),
        tests="f7_odd_names_are_taken",
    ),
    gone(
        "f7",
        "a file that cannot be read is rejected",
        (
            VALIDATOR,
            "except OSError as error:\n            await self._reject",
            "except ZeroDivisionError as error:\n            await self._reject",
        ),
        tests="f7_an_unreadable f7_a_file_that_may",
    ),
    gone(
        "f7",
        "a file is read under its own name, however odd",
        (VALIDATOR, "inspect(self.disk, claimed.path, ", 'inspect(self.disk, claimed.path.replace("\\n", " "), '),
        tests="f7_odd_names_are_read",
    ),
    gone(
        "f7",
        "a line for a person is printable",
        (REPORTER_LINES, "CONTINUED.join(_printable(part) for part in line.split(CONTINUED))", "line"),
        tests="f7_f10",
    ),
    gone(
        "f7",
        "what is no file is not checked",
        (CHECK, "        if not file.is_file():\n", "        if False:\n"),
        tests="f7_what_is_not",
    ),
    gone(
        "f7",
        "a name on the terminal is printable",
        (
            HOME,
            'return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(name))',
            "return str(name)",
        ),
        tests="f7_odd_names_are_shown f7_an_odd",
    ),
    gone(
        "f7",
        "a submitted name leaves room for what is put behind it",
        (SUBMIT, "if len(os.fsencode(stem)) > _STEM_BYTES_MAX:", "if False:"),
        tests="f7_odd_names_are_taken",
    ),
    gone(
        "f8",
        "a copy is compared with its source",
        (DURABLE, '        _verify(disk, temporary, f"blake3:{expected.hexdigest()}")\n', ""),
        tests="f8_a_copy",
    ),
    gone(
        "f8",
        "a copy's name is synced before its source goes",
        (DURABLE, "    disk.fsync_dir(parent_of(target))\n    disk.unlink(source)", "    disk.unlink(source)"),
        tests="f8_a_folder",
    ),
    gone(
        "f8 d5",
        "the source goes last",
        (
            DURABLE,
            '        _verify(disk, temporary, f"blake3:{expected.hexdigest()}")\n',
            "        disk.unlink(source)\n",
        ),
        (
            DURABLE,
            "    disk.fsync_dir(parent_of(target))\n    disk.unlink(source)",
            "    disk.fsync_dir(parent_of(target))",
        ),
        tests="f8_d5",
    ),
    gone("f8", "an inbox may be a link", (SURVEY, '    if inbox.kind != "link":', "    if True:"), tests="f8_an_inbox"),
    gone(
        "f9",
        "a claim that finds nothing leaves nothing",
        (FILING, "except FileNotFoundError:\n        durable.remove(disk, folder)", "except FileNotFoundError:"),
        tests="f9_a_file_that",
    ),
    gone(
        "f9",
        "what a person takes back is noted",
        (WATCHER, "for name in sorted(set(before) - here):", "for name in ():"),
        tests="f9_a_file_taken",
    ),
    gone(
        "f9",
        "a claimed file that is gone makes way",
        (
            WATCHER,
            "        await self._forget_taken_back()\n        if self._claim_unsure",
            "        if self._claim_unsure",
        ),
        tests="f9_a_claimed",
    ),
    gone(
        "f9",
        "a file that is gone is not begun",
        (TRAINER, "not in committed and await self._is_there(batch.path):", "not in committed:"),
        tests="f9_a_batch",
    ),
    gone(
        "f9",
        "a file that is gone is not gone on with",
        (TRAINER, "if not await self._is_there(cursor.path):", "if False:"),
        tests="f9_an_interrupted",
    ),
    gone(
        "f9",
        "what is not wanted yet stays in the inbox",
        (WATCHER, "len(self._claimed) >= self.settings.claims_max or not await", "not await"),
        (WATCHER, "wanted = max(0, settings.claims_max - len(self._claimed))", "wanted = 1 << 30"),
        tests="f9_the_inbox",
    ),
)
