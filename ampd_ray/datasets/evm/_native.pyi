from typing import Final, Literal

import msgspec

_Json = bytes | bytearray | memoryview | msgspec.Raw

HANDED_OUT: Final[int]
KEYS: Final[dict[str, dict[str, Literal["text", "number", "flag", "list"]]]]

class Buffer:
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Columns:
    @property
    def declined(self) -> str | None: ...
    def add(self, number: int, block: _Json, receipts: _Json | None, /) -> bool: ...
    def take(self) -> list[tuple[int, Buffer]]: ...
