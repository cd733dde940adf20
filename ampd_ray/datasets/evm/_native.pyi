from typing import Final, Literal

from typing_extensions import Buffer as Readable

KEYS: Final[dict[str, dict[str, Literal["text", "number", "flag", "list"]]]]

class Buffer:
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Columns:
    @property
    def declined(self) -> str | None: ...
    def add(self, number: int, block: Readable, receipts: Readable | None, /) -> bool: ...
    def take(self) -> list[tuple[int, Buffer]]: ...
