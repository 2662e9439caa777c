"""What ends a transfer that is under way, and what does not."""

from __future__ import annotations

import asyncio

import pytest

from edge.worker.work_in_progress import WorkInProgress, WorkStopped


def moving(scenario):
    async def work():
        progress, arrived = WorkInProgress(), asyncio.Event()
        await asyncio.wait_for(scenario(progress, arrived), 20)

    asyncio.run(work())


async def begun(progress, arrived, uploading=None):
    transfer = asyncio.ensure_future(progress.transfer(arrived.wait(), uploading))
    await asyncio.sleep(0)
    return transfer


def test_an_abandoned_client_that_is_not_at_work_does_not_end_what_a_preparation_fetches():
    async def scenario(progress, arrived):
        fetching = await begun(progress, arrived)
        assert progress.drop([3]) == []
        arrived.set()
        assert await fetching is True

    moving(scenario)


def test_a_download_ends_with_its_last_client_and_an_upload_with_its_own():
    async def scenario(progress, arrived):
        progress.begin([1, 2])
        downloading = await begun(progress, arrived)
        assert progress.drop([1]) == [1]
        await asyncio.sleep(0)
        assert not downloading.done()
        assert progress.drop([2]) == [2]
        with pytest.raises(WorkStopped):
            await downloading
        progress.begin([1, 2])
        uploading = await begun(progress, arrived, uploading=1)
        assert progress.drop([2]) == [2]
        await asyncio.sleep(0)
        assert not uploading.done()
        progress.drop([1])
        with pytest.raises(WorkStopped):
            await uploading

    moving(scenario)


def test_a_run_that_is_over_ends_any_transfer():
    async def scenario(progress, arrived):
        fetching = await begun(progress, arrived)
        progress.stop()
        with pytest.raises(WorkStopped):
            await fetching
        assert progress.over.is_set()

    moving(scenario)
