"""A run: one method on one data set until the target or the last round, from its set-up to its results.

What is in the ledger of an earlier process of the same run is not done again: the run goes on where that one was.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from typing import Any

from coordinator.clients.run_clients import RunClients
from coordinator.clients.sessions import Sessions
from coordinator.evaluation.reference_model import ReferenceModel
from coordinator.progress import ProgressBoard
from coordinator.report.result import environment
from coordinator.report.run_metrics import all_metrics
from coordinator.rounds.collaborators import Score
from coordinator.rounds.events import Evaluated, Event, Finish
from coordinator.rounds.executor import RoundExecutor
from coordinator.run_preparation import RunPreparation
from coordinator.run_recorder import RunRecorder
from coordinator.storage.ledger_types import LedgerFailure
from coordinator.storage.round_states import RunStates
from coordinator.storage.run_storage import RunStorage
from coordinator.threads import in_thread
from federa.bundle import BundleFacts
from federa.config import Experiment
from federa.errors import FederaError, described


class RunSession:
    """Create it, then `execute`. Worker streams and transfers talk to its `clients`."""

    def __init__(
        self,
        *,
        run_id: str,
        config: Experiment,
        storage: RunStorage,
        model: ReferenceModel,
        sessions: Sessions,
        board: ProgressBoard,
    ) -> None:
        """Read what an earlier process recorded. Takes a moment; not on an event loop."""
        self.run_id = run_id
        self.config = config
        self.storage = storage
        self.executor: RoundExecutor | None = None
        """Once everything is prepared."""
        self._states: RunStates | None = None
        self._model = model
        self._board = board
        self._events: asyncio.Queue[Event | Exception] = asyncio.Queue()
        facts = storage.ledger.facts()
        before_s = max(0.0, time.time() - facts["began_at"]) if "began_at" in facts else 0.0
        created_s = time.monotonic() - before_s
        self.clients = RunClients(
            run_id=run_id,
            config=config,
            storage=storage,
            sessions=sessions,
            board=board,
            # Since the run began, downtime included: the devices' clocks went on.
            elapsed_s=lambda: time.monotonic() - created_s,
            post=self._post,
            cannot_write=self._cannot_write,
        )
        self._preparation = RunPreparation(
            run_id=run_id,
            config=config,
            storage=storage,
            clients=self.clients,
            model=model,
            board=board,
            post=self._post,
        )
        self.recorder = RunRecorder(
            storage,
            position=self._position,
            control_bytes=lambda: self.clients.cohort.control_bytes,
            fail=self._cannot_write,
        )

    @property
    def is_over(self) -> bool:
        """Whether nothing that workers bring counts any more."""
        return self.clients.access.is_over

    async def execute(self) -> bool:
        """Run to the end and leave the results in the folder. True when the target was reached.

        Raises FederaError when the run cannot go on, and CancelledError when it is ended early: then, too, the folder
        holds a readable result, and the run can be taken up again.
        """
        self.clients.bind()
        self.recorder.start()
        try:
            return await self._execute()
        except asyncio.CancelledError:
            await self._stop("stopped", "ended early by the user")
            raise
        except (OSError, LedgerFailure) as error:
            failure = self._cannot_write(error)
            await self._stop("failed", str(failure))
            raise failure from error
        except FederaError as error:
            await self._stop("failed", str(error))
            raise
        except Exception as error:
            await self._stop("failed", described(error))
            raise
        finally:
            # In a task of its own: whoever ends the run a second time does not wait, and it goes on all the same.
            await asyncio.shield(asyncio.ensure_future(self._close()))

    # ---- its course

    async def _execute(self) -> bool:
        began_s = time.monotonic()
        facts = await in_thread(self._record_start)
        executor, finish = await self._prepare()
        setup_s = (facts.get("setup_s") or 0.0) + time.monotonic() - began_s
        await in_thread(self.storage.ledger.note, setup_s=setup_s)
        while finish is None:
            event = await self._next_event()
            finish = await executor.apply(event)
            if isinstance(event, Evaluated):
                self.recorder.write_soon()
        await self._finish(executor, finish)
        return finish.reached

    def _record_start(self) -> dict[str, Any]:
        """Record that the run is under way, for the first time or again; the facts from before."""
        ledger = self.storage.ledger
        facts = ledger.facts()
        now = time.time()
        # Wall clock: between two processes there is no other.
        away_s = max(0.0, now - facts["alive_at"]) if "alive_at" in facts else 0.0
        ledger.note(
            run_id=self.run_id,
            config=self.config.model_dump(mode="json"),
            better=self.config.metric.better,
            learning_rate=self.config.learning_rate,
            environment=environment(),
            state="running",
            failure=None,
            began_at=facts.get("began_at", now),
            alive_at=now,
            restarts=facts.get("restarts", -1) + 1,
            downtime_s=facts.get("downtime_s", 0.0) + away_s,
        )
        return facts

    async def _prepare(self) -> tuple[RoundExecutor, Finish | None]:
        """Prepare everything, until everybody is ready and the first round is announced, or an earlier process's round
        is taken up."""
        prepared = await self._preparation.prepare()
        self.executor = executor = prepared.executor
        self._states = prepared.rounds.states
        machine, handler = executor.machine, self.clients.handler
        self.clients.open(prepared.rounds)
        handler.rounds_began = machine.round > 0
        if not machine.round:
            self._board.stage("preparing", "the devices load the base model")
        await handler.set_up(prepared.setup)
        finish = await executor.carry_out(prepared.decisions)
        executor.show()
        while finish is None and not machine.round:
            finish = await executor.apply(await self._next_event())
        handler.rounds_began = True
        return executor, finish

    async def _finish(self, executor: RoundExecutor, finish: Finish) -> None:
        await in_thread(self._publish)
        before = "target reached" if finish.reached else "the last round is over"
        self._board.stage("testing", f"{before}; scoring the test part")
        test = await self._score_test(executor)
        await in_thread(self._publish, test)
        counted = {"test_examples": test.examples, "test_counters": dict(test.counters)}
        await in_thread(self.storage.ledger.note, test=test.value, **counted, state="finished")
        # A second copy of what is elsewhere.
        await in_thread(shutil.rmtree, self.storage.folder.model, ignore_errors=True)
        self._board.stage("finished", before)

    async def _score_test(self, executor: RoundExecutor) -> Score:
        """Score the test part. Devices may be away for long: what ends the run is taken in meanwhile."""
        testing = asyncio.ensure_future(executor.score("test"))
        failing = asyncio.ensure_future(self._fail_when_posted())
        try:
            await asyncio.wait({testing, failing}, return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                failing.result()
            return await testing
        finally:
            testing.cancel()
            failing.cancel()

    def _publish(self, test: Score | None = None) -> None:
        """Make final/ the bundle of the newest state. What each client has is the report's alone."""
        assert self._states is not None, "a run that ends has states"
        last = self.storage.ledger.rounds()[-1]
        task, counters = self.config.task, self.storage.ledger.round_counters()
        facts = BundleFacts(
            experiment=self._model.experiment,
            base_digest=self._model.base_digest,
            round=last["round"],
            value=last["value"],
            test=None if test is None else test.value,
            composition={key: value for key, value in self._model.composition.items() if key != "clients"},
            metrics=all_metrics(task, counters.get(last["round"])),
            test_metrics=None if test is None else all_metrics(task, test.counters),
        )
        self.storage.folder.publish_final(state=last["state_sha256"], start=self._states.start, facts=facts)

    async def _stop(self, state: str, message: str) -> None:
        def record() -> None:
            with contextlib.suppress(FederaError, OSError):
                self.storage.ledger.note(state=state, failure=message)
                if self._states is not None and self._board.run.values:
                    self._publish()

        await in_thread(record)
        self._board.stage(state, message)

    async def _close(self) -> None:
        self._model.stop()
        if self.executor is not None:
            self.executor.stop()
        missing = await self.clients.release(self._board.run.stage)
        if missing:
            self._board.run.note = f"no last report from {', '.join(missing)}"
        await self.recorder.finish()

    # ---- events, and what is noted

    def _post(self, event: Event | Exception) -> None:
        """Take in what happened, or what ends the run."""
        self._events.put_nowait(event)

    async def _next_event(self) -> Event:
        event = await self._events.get()
        if isinstance(event, Exception):
            raise event
        return event

    async def _fail_when_posted(self) -> None:
        """Never return; raise what ends the run."""
        while True:
            await self._next_event()

    def _cannot_write(self, error: Exception) -> FederaError:
        """End the run because what must be durable could not be written; returns the error that ends it."""
        if isinstance(error, OSError):
            what = error.filename or self.storage.folder.path
            error = FederaError(f"cannot write to {what}: {error.strerror or error}")
        failure = FederaError(
            f"{error}; the run stops, with nothing lost that was acknowledged: "
            "mend it and start again with the same --out"
        )
        self._post(failure)
        return failure

    def _position(self) -> tuple[int, float]:
        """Which round is open, and for how many seconds."""
        executor = self.executor
        return (0, 0.0) if executor is None else (executor.machine.round, executor.clock.elapsed_s())
