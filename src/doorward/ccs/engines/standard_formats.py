"""Reads the standard message formats that ship in ``ccs/formats``, and a utility's own from a folder."""

from pathlib import Path

from doorward.ccs.rules.formats import Format, check_format
from doorward.wire.reasons import Reason, Refused

STANDARD = Path(__file__).parent.parent / "formats"


def standard_formats(directory: Path = STANDARD) -> list[Format]:
    """Return the formats of a folder, by file name.

    Raises :class:`Refused` (``format-invalid``) naming the file, the place and the rule broken.
    """
    return [check_format(document) for document in standard_documents(directory)]


def standard_documents(directory: Path = STANDARD) -> list[bytes]:
    """Return the checked documents themselves, as the store keeps them."""
    documents = []
    for file in sorted(directory.glob("*.json")):
        document = file.read_bytes()
        try:
            check_format(document)
        except Refused as refused:
            raise Refused(
                Reason.FORMAT_INVALID, f"{file.name}: {refused.detail}", field=refused.field
            ) from None
        documents.append(document)
    return documents
