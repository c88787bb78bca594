"""Who is looking: of the comparisons that one visitor started, only the latest goes on."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import TypeVar

import gradio as gr

Values = TypeVar("Values")
MOST = 4096  # visitors that are remembered


class Visits:
    """The latest comparison of every open page, by Gradio's session."""

    def __init__(self) -> None:
        self._latest: OrderedDict[str, object] = OrderedDict()

    async def latest(self, request: gr.Request, values: AsyncIterator[Values]) -> AsyncIterator[Values]:
        """Yield from `values` until they end or the same page asks for something else, which stops them."""
        session, mark = request.session_hash or "", object()
        self._latest[session] = mark
        self._latest.move_to_end(session)
        while len(self._latest) > MOST:
            self._latest.popitem(last=False)
        try:
            async for value in values:
                if self._latest.get(session) is not mark:
                    return
                yield value
        finally:
            await values.aclose()
