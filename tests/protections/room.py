"""What keeps room on the disk and gives it (rows d1, d3, n5), and how each protection is taken out."""

from __future__ import annotations

from tests.protections.campaign import gone

GUARD = "actors/disk_guard/actor.py"
FORECAST = "actors/disk_guard/forecast.py"
CHECKPOINTER = "actors/checkpointer/actor.py"
RESERVE = "actors/checkpointer/reserve.py"
REPORTER = "actors/status_reporter/actor.py"
TRAINER = "actors/trainer/actor.py"
RELEASES = '        await self._release_reserve("the disk is running low")\n'
SAYS_IT_GOES_ON = """\
                self._told = ""
                await self.send(TrainingResumed())
            self._go_on"""

REMOVALS = (
    gone(
        "d1",
        "the minimum is never granted",
        (GUARD, "recovered if waits_for_more else self.settings.free_bytes_min", "recovered if waits_for_more else 0"),
        tests="d1_the_minimum d1_a_refusal",
    ),
    gone(
        "d1",
        "whoever was refused waits for more than the minimum",
        (GUARD, "            self._refused.add(request.purpose)\n", ""),
        tests="d1_a_refusal",
    ),
    gone(
        "d1 n5",
        "what lies there is what is forecast",
        (FORECAST, "(lying.generation_bytes or adapter_bytes or", "(adapter_bytes or"),
        tests="d1_n5 d1_the_newest",
    ),
    gone(
        "d1",
        "the newest generation is the one that is measured",
        (FORECAST, "if name.isdigit()), key=int)", "if name.isdigit()))"),
        tests="d1_the_newest",
    ),
    gone(
        "d1",
        "before the first commit the size of the adapter is known",
        (FORECAST, "lying.generation_bytes or adapter_bytes or", "lying.generation_bytes or"),
        tests="d1_before",
    ),
    gone(
        "d1 n5",
        "a file needs room for all that will be kept of it",
        (FORECAST, "batch_bytes=more_to_stay * generation + being_written", "batch_bytes=being_written"),
        tests="d1_a_file d1_a_batch_that_was d1_n5",
    ),
    gone(
        "d1 n5",
        "a night needs room for its delta",
        (FORECAST, "night_bytes=model + delta + being", "night_bytes=model + being"),
        tests="n5_a_night_that_was d1_n5",
    ),
    gone(
        "d1",
        "a file is begun only where there is room",
        (TRAINER, "if not await self._has_room(accepted.name):", "if False:"),
        tests="d1_a_batch_that_would d1_a_file",
    ),
    gone(
        "d3",
        "a disk that runs low brings retention forward",
        (CHECKPOINTER, RELEASES + "        await self._prune()\n", RELEASES),
        tests="d3_running_low_brings",
    ),
    gone(
        "d3",
        "a disk that runs low has the reserve released",
        (CHECKPOINTER, RELEASES, ""),
        tests="d3_running_low_releases",
    ),
    gone(
        "d3",
        "an alarm ends a quarter above",
        (GUARD, "return self.free_bytes_min + self.free_bytes_min // 4", "return self.free_bytes_min"),
        tests="d3_the_alarm",
    ),
    gone(
        "d3",
        "an alarm that stands is repeated",
        (GUARD, "if self._low and now - self._low_told_at < REPEATED_AFTER_SECONDS:", "if self._low:"),
        tests="d3_an_alarm",
    ),
    gone(
        "d3",
        "a start measures at once",
        (
            GUARD,
            "self._told: DiskMeasured | None = None\n        await self.measure()",
            "self._told: DiskMeasured | None = None",
        ),
        tests="low_at_the_start",
    ),
    gone(
        "d3",
        "a spent reserve is not free",
        (GUARD, "return lying.free_bytes - owed,", "return lying.free_bytes,"),
        tests="d3_a_reserve d3_the_release",
    ),
    gone(
        "d3",
        "the reserve is made only where the upper mark is left",
        (GUARD, ' or request.purpose == "reserve"', ""),
        tests="d3_it_is_not",
    ),
    gone(
        "d3",
        "the reserve's bytes do not compress",
        (
            RESERVE,
            "yield endless.digest(length=min(CHUNK_BYTES, self._size_bytes - at), seek=at)",
            "yield bytes(min(CHUNK_BYTES, self._size_bytes - at))",
        ),
        tests="d3_its_bytes",
    ),
    gone(
        "d3",
        "a reserve that lies there is not made again",
        (RESERVE, "return self.lies() == self._size_bytes", "return False"),
        tests="d3_it_is_made",
    ),
    gone(
        "d3",
        "a reserve that was released is not made again within the hour",
        (
            CHECKPOINTER,
            "if self._released_at is None or self.clock.monotonic() - self._released_at >= RENEWED_AFTER_SECONDS:",
            "if True:",
        ),
        tests="for_another_moment",
    ),
    gone(
        "d3 d5",
        "a commit on a full disk is made in the room of the reserve",
        (CHECKPOINTER, "if error.errno not in (errno.ENOSPC, errno.EDQUOT):", "if True:"),
        tests="d3_d5",
    ),
    gone(
        "d3",
        "a start on a full disk is made in the room of the reserve",
        (CHECKPOINTER, "await self._in_any_room(self._store.open)", "await self.blocking(self._store.open)"),
        tests="d3_a_start",
    ),
    gone(
        "d3",
        "a commit that is asked for again has the answer it had",
        (
            CHECKPOINTER,
            "if files is None and self._newest is not None and self._newest.ticket == ticket:",
            "if False:",
        ),
        tests="d3_a_commit",
    ),
    gone(
        "d3",
        "training holds while the disk is low",
        (TRAINER, "elif self._low and self._current is not None:\n            await", "elif False:\n            await"),
        tests="d3_a_disk_that_runs_low_holds",
    ),
    gone(
        "d3",
        "that training goes on is told only where it was held",
        (
            TRAINER,
            "            if self._told:\n" + SAYS_IT_GOES_ON,
            "            if True:\n" + SAYS_IT_GOES_ON,
        ),
        tests="d3_a_disk_that_runs_low_and",
    ),
    gone(
        "d3",
        "the rest of a full disk is for the status",
        (REPORTER, "if self._recording and not self._folder.page.disk.low:", "if self._recording:"),
        tests="d3_while",
    ),
)
