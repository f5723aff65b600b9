"""Messages in protobuf's wire format, as far as SentencePiece models need it."""

from collections.abc import Iterator


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each field of a message; of a field without length, no content. Raises IndexError where it is cut."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            value |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return value

    while at < len(message):
        number, kind = divmod(varint(), 8)
        content = b""
        if kind == 0:
            varint()
        else:
            size = {1: 8, 5: 4}.get(kind) or varint()
            content, at = message[at : at + size], at + size
        yield number, content if kind == 2 else b""
