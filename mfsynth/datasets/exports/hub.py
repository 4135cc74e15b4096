"""A data set of the Hugging Face hub as a place to push pairs to."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfsynth.errors import MfsynthError
from mfsynth.formatting import one_line

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

SCHEME = "hf://"
FORM = f"{SCHEME}datasets/ORGANISATION/NAME"
_REPOSITORY = re.compile(r"datasets/([\w.-]+/[\w.-]+?)/?")
_KIND = "dataset"


class HubDataset:
    """A data set of the hub, which is made when something is first sent to it.

    The token is that of the environment (`HF_TOKEN`) or of the hub's own login.

    Args:
        url: `hf://datasets/ORGANISATION/NAME`.
        public: Whether everybody may see it.

    Raises:
        MfsynthError: The URL is another, nobody is logged in, the hub doesn't answer, or the data
            set is there and isn't as public as `public` says.

    Attributes:
        shown: Its URL.
        page: What a browser opens.
        is_new: Whether it wasn't there.
        is_public: Whether everybody may see it.
    """

    def __init__(self, url: str, *, public: bool) -> None:
        from huggingface_hub import HfApi, get_token
        from huggingface_hub.errors import RepositoryNotFoundError
        from huggingface_hub.utils.tqdm import disable_progress_bars

        found = _REPOSITORY.fullmatch(url.removeprefix(SCHEME))
        if found is None:
            raise MfsynthError(f"{one_line(url)}: give {FORM}")
        self.shown = f"{SCHEME}datasets/{found[1]}"
        self._name = found[1]
        with self._told():
            if get_token() is None:
                raise MfsynthError(
                    f"{self.shown}: nobody is logged in; run `hf auth login`, or set HF_TOKEN"
                )
            # Commands have bars of their own.
            disable_progress_bars()
            self._api: HfApi = HfApi(library_name="mfsynth")
            self.page = f"{self._api.endpoint}/datasets/{self._name}"
            try:
                about: Any = self._api.repo_info(self._name, repo_type=_KIND)
            except RepositoryNotFoundError:
                about = None
        self.is_new = about is None
        self.is_public = public if about is None else not about.private
        if self.is_public and not public:
            raise MfsynthError(
                f"{self.shown}: everybody can see it; add --public if they may see these pairs"
            )
        if public and not self.is_public:
            # A push only makes data sets: who sees one that is there is told to the hub.
            raise MfsynthError(
                f"{self.shown}: it is private, and a push leaves it so; make it public at "
                f"{self.page}/settings, or leave --public out"
            )
        self._sent: list[CommitOperationAdd] = []

    def files(self) -> Collection[str]:
        """See `Place`."""
        return [] if self.is_new else self._listed

    @cached_property
    def _listed(self) -> Collection[str]:
        with self._told():
            return frozenset(self._api.list_repo_files(self._name, repo_type=_KIND))

    def read(self, path: str) -> bytes | None:
        """See `Place`."""
        if path not in self.files():
            return None
        with self._told(), tempfile.TemporaryDirectory() as folder:
            got = self._api.hf_hub_download(self._name, path, repo_type=_KIND, local_dir=folder)
            return Path(got).read_bytes()

    def send(self, path: str, data: bytes) -> None:
        """See `Place`. What has been sent before, though not committed, isn't sent again."""
        from huggingface_hub import CommitOperationAdd

        with self._told():
            if self.is_new:
                self._api.create_repo(
                    self._name, repo_type=_KIND, private=not self.is_public, exist_ok=True
                )
                self.is_new = False
                self._listed = frozenset()
            operation = CommitOperationAdd(path, data)
            self._api.preupload_lfs_files(self._name, [operation], repo_type=_KIND)
            self._sent.append(operation)

    def commit(self, message: str, removed: Sequence[str] = ()) -> None:
        """See `Place`."""
        from huggingface_hub import CommitOperationDelete

        gone = [CommitOperationDelete(path, is_folder=False) for path in removed]
        with self._told():
            self._api.create_commit(
                self._name, [*self._sent, *gone], commit_message=message, repo_type=_KIND
            )
        self._sent = []

    @contextmanager
    def _told(self) -> Iterator[None]:
        """One line of whatever goes wrong; libraries below have exceptions of their own."""
        from huggingface_hub import get_token

        try:
            yield
        except MfsynthError:
            raise
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", None)
            text = one_line(str(error) or type(error).__name__, 300)
            if token := get_token():
                text = text.replace(token, "***")
            remedy = "the same command goes on"
            if status in (401, 403, 404):
                remedy = "see that your token may write there, and " + remedy
            raise MfsynthError(f"{self.shown}: {text}; {remedy}") from error
