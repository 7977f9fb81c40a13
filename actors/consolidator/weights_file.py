"""Safetensors files as ranges of bytes: which tensor lies where, without loading one.

Guarantees: a header that does not describe its file exactly (a gap, an overlap, a short file, an index that names what
is not there) is refused, so whoever follows it reads every byte of the weights once. Knows nothing of torch.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from actors.consolidator.merge_problem import MergeProblem

BASE_DAMAGED = "NF-MERGE-012"
NO_SAFETENSORS = "NF-MERGE-010"
QUANTISED = "NF-MERGE-011"

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
HEADER_BYTES_MAX = 100_000_000
"""The format's own limit; a longer one is not a header but damage."""

DTYPE_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4}
DTYPE_BYTES |= {"F16": 2, "BF16": 2, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}


class TensorPlace(msgspec.Struct, frozen=True):
    """One tensor: ``start`` and ``end`` are offsets from the beginning of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class WeightsFile(msgspec.Struct, frozen=True):
    """One file: ``preamble`` is its header as written (length included); tensors in the order of their bytes."""

    path: Path
    preamble: bytes
    tensors: tuple[TensorPlace, ...]
    size: int


class _Entry(msgspec.Struct):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def read_weights_file(path: Path, code: str = BASE_DAMAGED) -> WeightsFile:
    """Read a file's header and check it against the file's size.

    Raises:
        MergeProblem: the file is not a complete safetensors file (with ``code``).
        OSError: it cannot be read at all.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(HEADER_BYTES_MAX, size - 8):
            raise MergeProblem(code, f"{path} is not a complete safetensors file ({size} bytes)")
        header = file.read(length)
    try:
        raw = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        entries = {
            name: msgspec.json.decode(entry, type=_Entry) for name, entry in raw.items() if name != "__metadata__"
        }
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MergeProblem(code, f"{path}: its header cannot be read: {error}") from None
    begin = 8 + length
    places = [
        TensorPlace(name, entry.dtype, entry.shape, begin + entry.data_offsets[0], begin + entry.data_offsets[1])
        for name, entry in entries.items()
    ]
    places.sort(key=lambda place: (place.start, place.end))
    position = begin
    for place in places:
        width = DTYPE_BYTES.get(place.dtype)
        if place.start != position or place.end < place.start:
            raise MergeProblem(code, f"{path}: the bytes of {place.name} do not follow on those before it")
        if width is not None and place.end - place.start != width * _count(place.shape):
            raise MergeProblem(code, f"{path}: {place.name} has not the size its shape {list(place.shape)} asks for")
        position = place.end
    if position != size:
        raise MergeProblem(code, f"{path} has {size} bytes where its header describes {position}")
    return WeightsFile(path, length.to_bytes(8, "little") + header, tuple(places), size)


def read_model(folder: Path) -> list[WeightsFile]:
    """All weight files of a model folder, chosen as transformers chooses them.

    Raises:
        MergeProblem: no safetensors, a quantised model, or files that disagree with their index.
    """
    refuse_quantised(folder)
    if (folder / SINGLE_FILE).is_file():
        return [read_weights_file(folder / SINGLE_FILE)]
    if not (folder / INDEX_FILE).is_file():
        pickled = sorted(path.name for path in folder.glob("pytorch_model*"))
        found = f"; {pickled[0]} is a pickle, which is never opened" if pickled else ""
        raise MergeProblem(NO_SAFETENSORS, f"{folder} holds no {SINGLE_FILE} and no {INDEX_FILE}{found}")
    try:
        index = msgspec.json.decode((folder / INDEX_FILE).read_bytes(), type=_Index)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MergeProblem(BASE_DAMAGED, f"{folder / INDEX_FILE} cannot be read: {error}") from None
    files = []
    for name in sorted(set(index.weight_map.values())):
        if Path(name).name != name or not (folder / name).is_file():
            raise MergeProblem(BASE_DAMAGED, f"{folder / INDEX_FILE} names {name}, which is not in the folder")
        files.append(read_weights_file(folder / name))
    found_in = [(place.name, file.path.name) for file in files for place in file.tensors]
    if sorted(found_in) != sorted(index.weight_map.items()):
        raise MergeProblem(BASE_DAMAGED, f"{folder / INDEX_FILE} does not name the tensors its files hold")
    return files


def refuse_quantised(folder: Path) -> None:
    """A quantised weight is codes and scales: adding a delta to its bytes would make nonsense."""
    path = folder / "config.json"
    if not path.is_file():
        raise MergeProblem(NO_SAFETENSORS, f"{folder} has no config.json, so it is no model folder")
    try:
        config = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MergeProblem(BASE_DAMAGED, f"{path} cannot be read: {error}") from None
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    if any(part.get("quantization_config") for part in parts):
        raise MergeProblem(QUANTISED, f"{folder} is quantised (quantization_config in its config.json)")


def weights_bytes(folder: Path) -> int:
    """Bytes of a model's weight files: about what a merge of it writes."""
    return sum(file.size for file in read_model(folder))


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count
