"""An experiment under way: its runs, one after the other, and its folder."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.clients.sessions import Sessions
from coordinator.evaluation.reference_model import ReferenceModel, TorchReferenceModel
from coordinator.progress import ProgressBoard
from coordinator.report import write_report
from coordinator.report.result import make_result, run_result, write_results
from coordinator.run_session import RunSession
from coordinator.storage.experiment_record import ExperimentRecord
from coordinator.storage.ledger_types import LedgerFailure
from coordinator.storage.run_folder import FINAL_FILES, REPORT, RESULT
from coordinator.storage.run_storage import RunStorage
from coordinator.threads import in_thread
from federa.config import Experiment
from federa.errors import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, EXIT_TARGET_MISSED, FederaError, described
from federa.numbers import human_goal, metric_words
from federa.result import read_result_tree
from protos.federation_pb2 import Outcome

log = logging.getLogger("federa.coordinator")

ReferenceModelFactory = Callable[[Experiment], ReferenceModel]


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """An experiment's results as other threads may read them: those in the folders of its runs, and that of the run
    under way, in the folder `live_folder`, in place of what its folder holds."""

    folders: tuple[Path, ...]
    live_folder: Path | None = None
    live_result: Callable[[], dict[str, Any]] | None = None

    def result(self) -> dict[str, Any]:
        """All its runs so far, in the schema of result.json."""
        runs: list[dict[str, Any]] = []
        for folder in self.folders:
            if self.live_result is not None and self.live_folder == folder:
                # Its ledger is closed when it is over, with its result beside it.
                with contextlib.suppress(LedgerFailure, OSError):
                    runs.append(self.live_result())
                    continue
            if (folder / RESULT).exists():
                result = read_result_tree(folder / RESULT)
                runs.extend({**run, "environment": result["environment"]} for run in result["runs"])
        return make_result(runs)


class ExperimentRunner:
    """One submitted experiment. A run of its own fills the folder itself; of several runs each has a folder below it,
    by method, and the folder's result.json and report.html hold them all.

    Its record is kept in the folder: what an earlier process left unfinished goes on, run by run; what is finished is
    not done again."""

    def __init__(
        self,
        record: ExperimentRecord,
        path: Path,
        sessions: Sessions,
        make_model: ReferenceModelFactory = TorchReferenceModel,
    ) -> None:
        self.experiment_id = record.experiment_id
        self.experiment = record.experiment
        self.path = path
        self.run: RunSession | None = None
        self._record = record
        self._runs = list(self.experiment.runs())
        self._waiting = {self._run_id(config) for config in self._runs}
        self.board = ProgressBoard(self.experiment_id, len(self._runs))
        self._sessions = sessions
        self._make_model = make_model
        self._task: asyncio.Task[bool] | None = None
        self._cancelled = self._shut_down = self._started = False
        if record.exit_code is not None:
            self._waiting.clear()
            self.board.finish(record.outcome, self._files())

    @property
    def over(self) -> bool:
        return self.board.snapshot().over

    @property
    def finished(self) -> bool:
        """Over, with nothing left to go on with."""
        return self._record.finished

    def view(self) -> View:
        """A copy of what is shown, which other threads may read. Call it on the event loop."""
        folders = tuple(self._folder(config.method.name) for config in self._runs)
        if self.run is None:
            return View(folders=folders)
        return View(folders=folders, live_folder=self.run.storage.folder.path, live_result=self.run.recorder.result)

    def expects(self, run_id: str) -> bool:
        """Whether that run is under way or still to come."""
        return run_id in self._waiting

    async def execute(self) -> Outcome:
        """All runs. Never raises for a run's sake: the outcome carries the exit code and, in one line, why."""
        if self.over:
            return self.board.snapshot().outcome
        self._started = True
        missed = []
        outcome = Outcome(exit_code=EXIT_OK)
        for config in self._runs:
            if self._cancelled:
                break
            name = config.method.name
            try:
                if not await self._execute(config):
                    missed.append(name)
            except asyncio.CancelledError:
                outcome = Outcome(exit_code=EXIT_INTERRUPTED, message=f"{name} was ended early")
                break
            except FederaError as error:
                outcome = Outcome(exit_code=error.exit_code, message=str(error))
                break
            except Exception as error:
                log.exception("the run of %s failed", name)
                outcome = Outcome(exit_code=EXIT_ERROR, message=f"{name}: {described(error)}")
                break
        if self._cancelled:
            outcome = Outcome(exit_code=EXIT_INTERRUPTED, message="ended early by the user")
        elif missed and outcome.exit_code == EXIT_OK:
            metric = self.experiment.metric
            goal = human_goal(f"{self.experiment.target.value:g}", metric.better == "lower")
            message = f"{', '.join(missed)} did not reach {metric_words(metric.name)} {goal}"
            outcome = Outcome(exit_code=EXIT_TARGET_MISSED, message=message)
        try:
            await in_thread(self._conclude, outcome)
            if self._shut_down:
                return outcome  # watchers are not told that it is over
        except Exception as error:
            # Watchers must receive the end all the same, and the next experiment have its turn.
            if outcome.exit_code in (EXIT_OK, EXIT_TARGET_MISSED):
                log.exception("the results could not be written")
                outcome = Outcome(exit_code=EXIT_ERROR, message=f"cannot write the results: {error}")
        self._waiting.clear()
        self.board.finish(outcome, self._files())
        return outcome

    def cancel(self, shut_down: bool = False) -> None:
        """End the run under way, and start no other. When it is the coordinator that is shut down, the next one goes on
        with the experiment."""
        self._cancelled = True
        self._shut_down = shut_down
        if self._task is not None:
            self._task.cancel()

    async def end_early(self) -> None:
        """Cancel it as its operator wishes. One that still waits in the queue is over at once."""
        self.cancel()
        if self._started or self.over:
            return
        outcome = Outcome(exit_code=EXIT_INTERRUPTED, message="ended before it began")
        await in_thread(self._end, outcome)
        if not self.over:
            self.board.finish(outcome, [])

    def _conclude(self, outcome: Outcome) -> None:
        """Write the results, and that it is over, unless the next coordinator goes on with it."""
        self._write()
        if not self._shut_down:
            self._end(outcome)

    def _end(self, outcome: Outcome) -> None:
        self._record = self._record.ended(outcome)
        self._record.write(self.path)

    async def _execute(self, config: Experiment) -> bool:
        # A task of its own: cancelling it ends the run and lets `execute` write the results.
        self._task = asyncio.ensure_future(self._run(config))
        try:
            reached = await self._task
        finally:
            self._task = self.run = None
        self._waiting.discard(self._run_id(config))
        return reached

    async def _run(self, config: Experiment) -> bool:
        session = await in_thread(self._open, config)
        metric, rounds = config.metric, config.federation.rounds
        self.board.next_run(config.method.name, rounds, config.target.value, metric.name, metric.better)
        if isinstance(session, bool):
            return session
        self.run = session
        return await session.execute()

    def _open(self, config: Experiment) -> RunSession | bool:
        """Open a run to go on with; of one that is finished, whether it reached its target."""
        storage = RunStorage(self._folder(config.method.name))
        try:
            if storage.ledger.facts().get("state") != "finished":
                return RunSession(
                    run_id=self._run_id(config),
                    config=config,
                    storage=storage,
                    model=self._make_model(config),
                    sessions=self._sessions,
                    board=self.board,
                )
            # The earlier process may have been killed before it wrote this.
            result = run_result(storage.reader, storage.samples)
            write_results(storage.folder.path, [result])
        except BaseException:
            storage.close()
            raise
        storage.close()
        return bool(result["reached"])

    def _run_id(self, config: Experiment) -> str:
        return f"{self.experiment_id}-{config.method.name}"

    def _folder(self, method: str) -> Path:
        return self.path if len(self._runs) == 1 else self.path / method

    def _write(self) -> None:
        runs: list[dict[str, Any]] = []
        for config in self._runs:
            folder = self._folder(config.method.name)
            if (folder / RESULT).exists():
                result = read_result_tree(folder / RESULT)
                if len(self._runs) > 1:
                    write_report(result, folder / REPORT)
                runs.extend({**run, "environment": result["environment"]} for run in result["runs"])
        write_report(write_results(self.path, runs), self.path / REPORT)

    def _files(self) -> list[str]:
        folders = {self.path, *(self._folder(config.method.name) for config in self._runs)}
        found = [folder / name for folder in folders for name in (RESULT, REPORT, *FINAL_FILES)]
        return sorted(str(path.relative_to(self.path)) for path in found if path.exists())
