"""Messages of recordings: ROS bags of both versions, and MCAP with ROS 2 or Foxglove's messages."""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from mfsynth.errors import MfsynthError
from mfsynth.sources.guards import decoding, library
from mfsynth.sources.kept_open import KeptOpen
from mfsynth.storage.credentials import without_credentials
from mfsynth.storage.urls import where_sought

_REMEDY = "restore it, or leave it out"
# Of recordings that stay open in a process.
_OPEN = 4
_MCAP = b"\x89MCAP0\r\n"
# Where a message begins with a header, its time is there.
_STAMPED = {"Image", "CompressedImage"}


class Moment(NamedTuple):
    """When a message was recorded.

    Attributes:
        logged: Nanoseconds, by the recorder's clock; what it is found by.
        stamped: Nanoseconds, by the sensor's; 0 where it doesn't say.
    """

    logged: int
    stamped: int


class MessageLog(Protocol):
    """A recording that is open."""

    @property
    def topics(self) -> Mapping[str, str]:
        """The types of messages by topics, without their packages, as CameraInfo."""
        ...

    def moments(self, topics: Collection[str]) -> Iterator[tuple[str, Moment]]:
        """All messages of topics, in the order of time."""
        ...

    def message(self, topic: str, logged: int | None = None, ordinal: int = 0) -> Any:
        """A message by its time, and its number among those of that; the first unless given."""
        ...

    def messages(self, topic: str) -> Iterator[tuple[int, Any]]:
        """All messages of a topic, with the recorder's times."""
        ...

    def close(self) -> None:
        """Close its file."""
        ...


@contextmanager
def message_log(path: Path) -> Iterator[MessageLog]:
    """A recording, for one thread at a time.

    Raises:
        MfsynthError: It can't be read, or a library isn't installed; whatever happens inside of the
            `with` is told of it, too.
    """
    with decoding(str(path), "a recording", _REMEDY), _KEPT.of(path) as log:
        yield log


def _open(path: Path) -> MessageLog:
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_MCAP)) == _MCAP and _is_protobuf(path):
                return _FoxgloveLog(path)
    return _RosLog(path)


_KEPT = KeptOpen(_open, _OPEN)


def _is_protobuf(path: Path) -> bool:
    reading = library("mcap.reader", "mcap", "mcap", str(path))
    with path.open("rb") as file:
        summary = reading.make_reader(file).get_summary()
    schemas = () if summary is None else summary.schemas.values()
    return any(schema.encoding == "protobuf" for schema in schemas)


class _RosLog:
    """Implements `MessageLog`."""

    def __init__(self, path: Path) -> None:
        rosbags = library("rosbags.highlevel", "rosbags", "ros", str(path))
        stores = library("rosbags.typesys", "rosbags", "ros", str(path))
        # Where a bag doesn't define its messages, they are the usual ones.
        usual = stores.get_typestore(stores.Stores.ROS2_HUMBLE)
        self._reader = rosbags.AnyReader([path], default_typestore=usual)
        self._reader.open()
        self._ros2 = bool(self._reader.is2)
        self.topics = {
            one.topic: one.msgtype.rpartition("/")[2] for one in self._reader.connections
        }

    def moments(self, topics: Collection[str]) -> Iterator[tuple[str, Moment]]:
        for one, logged, raw in self._reader.messages(connections=self._connections(topics)):
            yield one.topic, Moment(logged, self._stamp(one.topic, raw))

    def messages(self, topic: str) -> Iterator[tuple[int, Any]]:
        for one, logged, raw in self._reader.messages(self._connections([topic])):
            yield logged, self._reader.deserialize(raw, one.msgtype)

    def message(self, topic: str, logged: int | None = None, ordinal: int = 0) -> Any:
        until = None if logged is None else logged + 1
        found = self._reader.messages(self._connections([topic]), start=logged, stop=until)
        for one, _, raw in islice(found, ordinal, None):
            return self._reader.deserialize(raw, one.msgtype)
        raise ValueError(f"no message of {topic}" + ("" if logged is None else f" at {logged}"))

    def close(self) -> None:
        self._reader.close()

    def _connections(self, topics: Collection[str]) -> list[Any]:
        return [one for one in self._reader.connections if one.topic in topics]

    def _stamp(self, topic: str, raw: bytes) -> int:
        if self.topics[topic] not in _STAMPED:
            return 0
        # The header is first: after CDR's own 4 bytes, or ROS 1's number of the message.
        order = "<" if not self._ros2 or raw[1] & 1 else ">"
        seconds, nanoseconds = struct.unpack_from(f"{order}II", raw, 4)
        return int(seconds) * 10**9 + int(nanoseconds)


class _FoxgloveLog:
    """Implements `MessageLog`: messages as docs.foxglove.dev/docs/sdk/schemas has them."""

    _TYPES: ClassVar[Mapping[str, str]] = {"RawImage": "Image", "CameraCalibration": "CameraInfo"}

    def __init__(self, path: Path) -> None:
        reading = library("mcap.reader", "mcap", "mcap", str(path))
        protobuf = library("mcap_protobuf.decoder", "mcap-protobuf-support", "mcap", str(path))
        self._file = path.open("rb")
        self._reader = reading.make_reader(
            self._file, decoder_factories=[protobuf.DecoderFactory()]
        )
        summary = self._reader.get_summary()
        names = {
            channel.topic: summary.schemas[channel.schema_id].name.rpartition(".")[2]
            for channel in summary.channels.values()
        }
        self.topics = {topic: self._TYPES.get(name, name) for topic, name in names.items()}

    def moments(self, topics: Collection[str]) -> Iterator[tuple[str, Moment]]:
        found = self._reader.iter_decoded_messages(topics=list(topics))
        for _, channel, message, decoded in found:
            time = getattr(decoded, "timestamp", None)
            stamped = 0 if time is None else time.seconds * 10**9 + time.nanos
            yield channel.topic, Moment(message.log_time, stamped)

    def messages(self, topic: str) -> Iterator[tuple[int, Any]]:
        for _, _, message, decoded in self._reader.iter_decoded_messages([topic]):
            yield message.log_time, decoded

    def message(self, topic: str, logged: int | None = None, ordinal: int = 0) -> Any:
        until = None if logged is None else logged + 1
        found = self._reader.iter_decoded_messages([topic], start_time=logged, end_time=until)
        for *_, decoded in islice(found, ordinal, None):
            return decoded
        raise ValueError(f"no message of {topic}" + ("" if logged is None else f" at {logged}"))

    def close(self) -> None:
        self._file.close()


def require_one_path(path: str) -> Path:
    """The local path of a recording.

    Raises:
        MfsynthError: There is none, or it is in a store.
    """
    if "://" in path:
        raise MfsynthError(
            f"{without_credentials(path)}: recordings are read from a disk; copy it there"
        )
    if not Path(path).exists():
        raise MfsynthError(f"{path}: no such recording{where_sought(path)}; check the path")
    return Path(path)
