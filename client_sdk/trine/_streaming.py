"""An answer as it is generated, from the first node that gives one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Self

import httpx2

from trine import _flow as flow
from trine._answer import Answer
from trine._core import Stream
from trine._failover import Trying
from trine._http import cut_off
from trine._options import Wanted
from trine._ordering import Draft
from trine._repeats import Sent
from trine.errors import InvalidInput, NodeError

if TYPE_CHECKING:
    from trine._async_client import AsyncClient
    from trine.chain import ModelEntry


class AsyncTextStream:
    """Iterate over it with `async for`, once. Who leaves before its end closes it, or uses it with `async with`: then
    the node sees that nobody waits any more, and stops."""

    def __init__(self, client: AsyncClient, asked: Wanted) -> None:
        self._client = client
        self._asked = asked
        self._pieces: AsyncGenerator[str, None] | None = None
        self.answer: Answer | None = None
        """The checked answer, once the text has ended."""
        self.place: tuple[str, str] | None = None
        """Address and endpoint of the node that was asked last."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends it. Twice is once."""
        if self._pieces is not None:
            await self._pieces.aclose()

    def __aiter__(self) -> AsyncGenerator[str, None]:
        """Raises InvalidInput the second time, which would order and pay again."""
        if self._pieces is not None:
            raise InvalidInput("a stream is read once, and `.answer.text` has all of it: order another one")
        self._pieces = self._texts()
        return self._pieces

    async def _texts(self) -> AsyncGenerator[str, None]:
        client, asked, core = self._client, self._asked, self._client._core
        trying = Trying(core, client._timeout, asked)
        model = await client._chosen_model(asked.model)
        found = await client._run(flow.earlier_at(core, asked, model))
        trying.noted = found if isinstance(found, Sent) else None
        while not isinstance(found, Answer):
            earlier = found
            known = earlier.place if earlier else trying.remembered_choice(model)
            place = known if known is not None else await asyncio.to_thread(trying.choose, model)
            self.place = place
            race = _Race(client, asked, trying, model)
            one = race.enter(place, earlier.order if earlier else None)
            try:
                one, text = await race.first_text(hedge_after=None if earlier else asked.hedge_after)
                self.place = one.place
                while text is not None:
                    yield text
                    text = await one.next_text()
                self.answer = one.end()
                self.answer.tried = trying.tried
                if asked.idempotency_key is not None:
                    await asyncio.to_thread(core.repeats.note, asked, self.answer)
                return
            except (NodeError, httpx2.HTTPError) as raised:
                one = race.last
                error = _as_node_error(raised, one.place)
                found, pause = trying.again(error, earlier, model, one.place, one.order, begun=one.has_begun)
            except _Overtaken as overtaken:
                found, pause = overtaken.found, 0.0
            finally:
                await race.over()
            await asyncio.sleep(pause)
        self.answer = found
        if found.content:
            yield found.content


class _Overtaken(Exception):
    """Another client, or thread, has sent an order under this name meanwhile: that one is to be sent, or its answer
    given."""

    def __init__(self, found: Sent | Answer) -> None:
        super().__init__()
        self.found = found


class _Contender:
    """One node's way to the answer."""

    def __init__(
        self, client: AsyncClient, asked: Wanted, trying: Trying, model: ModelEntry, place: tuple[str, str]
    ) -> None:
        self._client = client
        self._asked = asked
        self._trying = trying
        self._model = model
        self._started = 0.0
        self._first_seconds: float | None = None
        self._cost: int | None = None
        self._stream: Stream | None = None
        self._texts: AsyncGenerator[str, None] | None = None
        self.place = place
        self.order: Draft | None = None
        self._is_own = True  # else whoever has sent it first says in the end what it cost, unless this one knows
        self.first: asyncio.Task[str | None] | None = None

    @property
    def has_begun(self) -> bool:
        return self._stream is not None and self._stream.has_begun

    def begin(self, order: Draft | None, most_wei: int | None) -> None:
        self.order, self._is_own = order, order is None
        self.first = asyncio.create_task(self._begin(most_wei))

    async def _begin(self, most_wei: int | None) -> str | None:
        client, core = self._client, self._client._core
        if self.order is None:
            steps = flow.order_at(core, self.place, self._model, self._asked, most_wei)
            self.order = await client._run(steps)
            noted = flow.noted(core, self._trying, self._asked, self._model, self.place, self.order)
            other = await client._run(noted)
            if other is not None:
                self.order = None
                raise _Overtaken(other)
        self._stream, self._started = Stream(core, self.order, *self.place), time.monotonic()
        self._texts = self._read(self.order, self._stream)
        text = await self.next_text()
        self._first_seconds = time.monotonic() - self._started
        return text

    async def next_text(self) -> str | None:
        """None at the end."""
        return await anext(self._texts, None) if self._texts else None

    async def _read(self, order: Draft, stream: Stream) -> AsyncGenerator[str, None]:
        client, patience = self._client, self._trying.patience(self._model, self.place)
        step, opening = await client._run(flow.streamed(client._core, self.place, order))
        async with aclosing(client._http.events(step, opening, patience, lambda: stream.has_begun)) as chunks:
            async for chunk in chunks:
                for text in stream.feed(chunk):
                    yield text
        if opening is not None and stream.answer is None:  # what has its receipt is whole: all of it is signed
            opening.end()

    def end(self) -> Answer:
        """The checked answer. Raises NodeError, VerificationFailed."""
        if self._stream is None:
            raise AssertionError("it has begun")
        seconds = time.monotonic() - self._started
        answer = self._stream.end(seconds)
        answer.first_seconds, self._cost = self._first_seconds, answer.receipt.fee_wei
        first = self._first_seconds or 0.0
        self._client._core.speeds.note(self.place[0], first, answer.receipt.output_tokens, seconds - first)
        return answer

    async def leave(self) -> None:
        """Ends what goes on, so that the node sees nobody wait for it."""
        if self.first is not None:
            self.first.cancel()
            await asyncio.wait([self.first])
            if not self.first.cancelled():
                self.first.exception()  # whoever waited for it was told
        if self._texts is not None:
            await self._texts.aclose()

    def give_back(self) -> None:
        """What it cost is known by now, or nobody knows."""
        if self.order is not None and (self._is_own or self._cost is not None or self.order.number is None):
            self._client._core.end(self.place[0], self.order, self._cost)


class _Race:
    """Who shows the first text: mostly there is one node only."""

    def __init__(self, client: AsyncClient, asked: Wanted, trying: Trying, model: ModelEntry) -> None:
        self._client = client
        self._asked = asked
        self._trying = trying
        self._model = model
        self._entered: list[_Contender] = []
        self.last: _Contender
        """Who has won, or has failed with nobody left."""

    def enter(self, place: tuple[str, str], order: Draft | None = None, beside_wei: int = 0) -> _Contender:
        left = self._trying.left_wei
        one = _Contender(self._client, self._asked, self._trying, self._model, place)
        one.begin(order, None if left is None else max(0, left - beside_wei))
        self._entered.append(one)
        self.last = one
        return one

    async def first_text(self, hedge_after: float | None) -> tuple[_Contender, str | None]:
        """Raises NodeError, httpx2.HTTPError: those of the last one that is left; all others at once."""
        if hedge_after is not None:
            await self._hedge(self._entered[0], hedge_after)
        while True:
            tasks = [one.first for one in self._entered if one.first is not None]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            ended = next(one for one in self._entered if one.first is not None and one.first.done())
            others = [one for one in self._entered if one is not ended]
            error = ended.first.exception() if ended.first is not None else None
            if others and isinstance(error, NodeError | httpx2.HTTPError):
                await self._lose(ended, _as_node_error(error, ended.place))
                continue
            self.last = ended
            for other in others:
                await self._lose(other, NodeError("another node was sooner"))
            if error is not None:
                raise error
            return ended, ended.first.result() if ended.first is not None else None

    async def _hedge(self, first: _Contender, seconds: float) -> None:
        """A second node is asked, too, where the first one is late and there may be two to pay."""
        if first.first is None:
            return
        await asyncio.wait([first.first], timeout=seconds)
        if first.first.done() or first.has_begun:  # a tool call comes without a text
            return
        place = self._trying.second(self._model, first.place, first.order)
        if place is not None:
            self._client._core.speeds.note_late(first.place[0], seconds)
            self.enter(place, beside_wei=self._trying.worst_wei(self._model, first.order))

    async def _lose(self, one: _Contender, error: NodeError) -> None:
        self._entered.remove(one)
        await one.leave()
        self._trying.lose(one.place, one.order, error)

    async def over(self) -> None:
        for one in self._entered:
            await one.leave()
            one.give_back()


def _as_node_error(error: NodeError | httpx2.HTTPError, place: tuple[str, str]) -> NodeError:
    return error if isinstance(error, NodeError) else cut_off(error, place[1])
