"""Notices that a vendor's listing leads in a circle, whatever way of paging it has.

A next link may lead back to a page that was read before, a cursor may repeat, an offset may be
ignored. The reader cannot tell by one page; who drives it sees all of them. It costs little: of a
page only its size, first and last record count, and only the newest digests are kept.
"""

from collections import OrderedDict
from hashlib import blake2b
from typing import Any

import orjson

from connectors.kernel.errors import ContractError
from connectors.kernel.messages import Page, Request, Response

# The same page comes again where a read starts over in its middle, or a window overlaps; not so
# often as this. A page without records may stand for many parts of which each has nothing.
SAME_PAGE, SAME_EMPTY_PAGE, SAME_ANSWER = 3, 100, 5
REMEMBERED = 10_000


class Rounds:
    """What one read has met so far. Both methods raise ContractError once it goes in circles."""

    def __init__(self) -> None:
        self._met: OrderedDict[bytes, int] = OrderedDict()
        self._part = ""

    def answered(self, request: Request, response: Response) -> None:
        """A request was answered: the same question with the same answer leads nowhere new."""
        if request.file or response.status >= 400:
            return  # a file is no listing; what fails is asked again on purpose
        self._part = request.part
        asked = (request.method, request.path, request.params, request.json, request.form)
        found = response.content or _gist(response.json)
        self._count(_digest("answer", self._part, asked, request.headers, found), SAME_ANSWER)

    def came(self, page: Page) -> None:
        """A page was read: the same records, or without any the same place, again and again."""
        if page.records or page.partial:
            self._count(
                _digest("page", self._part, _gist(page.records), _gist(page.partial)), SAME_PAGE
            )
        else:
            self._count(_digest("place", page.checkpoint, page.deleted), SAME_EMPTY_PAGE)

    def _count(self, digest: bytes, most: int) -> None:
        times = self._met.pop(digest, 0) + 1
        if times >= most:
            raise ContractError(
                "the vendor's listing does not end: it leads back to pages that were read before"
            )
        self._met[digest] = times
        if len(self._met) > REMEMBERED:
            self._met.popitem(last=False)


def _gist(value: Any, depth: int = 2) -> Any:
    """What tells one page from another: of each list its length, its first and its last element."""
    if isinstance(value, dict) and depth:
        return {str(name): _gist(held, depth - 1) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [len(value), *value[:1], *value[-1:]]
    return value


def _digest(*parts: Any) -> bytes:
    options = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS
    try:
        text = orjson.dumps(parts, default=repr, option=options)
    except TypeError:  # an integer beyond 64 bits, or a lone surrogate
        text = repr(parts).encode(errors="replace")
    return blake2b(text, digest_size=16).digest()
