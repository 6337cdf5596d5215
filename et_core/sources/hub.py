from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from et_core.errors import ArtifactError, EtError, RefError
from et_core.interfaces.artifact import Artifact
from et_core.interfaces.source import Source
from et_core.registry import ModelRef
from et_core.sources.files import (
    INDEX,
    PATTERNS,
    WEIGHTS,
    pickle_message,
    read_config,
    read_folder,
    unsafe_files,
    verify_sha256,
)

T = TypeVar("T")


class NotFetchedError(ArtifactError):
    """The Hub does not give the files, or cannot be asked; *remedy* says what to do, they may also be had elsewhere."""

    def __init__(self, ref: ModelRef, reason: str, remedy: str) -> None:
        super().__init__(f"{str(ref)!r}: {reason}\n{remedy}")
        self.reason = reason
        self.remedy = remedy


class HubSource(Source):
    """``org/repo@hf[:revision]``: a repository of the Hugging Face Hub, through huggingface_hub and its cache.

    HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE mean what they mean there; *endpoint* and *cache* precede them.
    """

    def __init__(self, *, endpoint: str | None = None, cache: Path | None = None) -> None:
        self._api = HfApi(endpoint=endpoint)
        self._cache = cache

    def resolve(self, ref: ModelRef) -> Artifact:
        """Fetch the files of *ref*, those that are not in the cache, and pin the commit."""
        return self.fetch(ref)

    def fetch(self, ref: ModelRef, *, sha256: Mapping[str, str] | None = None) -> Artifact:
        """The same, with the files checked against *sha256* when they were not checked before."""
        label = repr(str(ref))
        folder = Path(self._ask(ref, lambda: self._download(ref)))
        commit = folder.name
        self._refuse_pickles(ref, folder)
        if sha256:
            verify_sha256(folder, sha256, label=label, record=folder.parents[1] / "et-verified" / f"{commit}.json")
        files = read_folder(folder, label=label)
        return Artifact(
            ModelRef(ref.target, ref.source, commit),
            files.family,
            files.config,
            files.weights,
            files.tokenizer,
            files.license,
            origin=f"{self._api.endpoint}/{ref.target}",
        )

    def _download(self, ref: ModelRef) -> str:
        return snapshot_download(
            ref.target,
            revision=ref.revision,
            allow_patterns=list(PATTERNS),
            # fnmatch lets '*' cross folders, and folders hold other formats and other models.
            ignore_patterns=["*/*"],
            cache_dir=self._cache,
            endpoint=self._api.endpoint,
        )

    def _refuse_pickles(self, ref: ModelRef, folder: Path) -> None:
        if (folder / WEIGHTS).is_file() or (folder / INDEX).is_file():
            return
        names: list[str] = []
        # Without the list the message is less exact: read_folder then says that there are no weights.
        with suppress(EtError):
            names = self._ask(ref, lambda: self._api.list_repo_files(ref.target, revision=folder.name))
        unsafe = unsafe_files(names)
        if unsafe:
            label = repr(str(ref))
            save = ref.target.rpartition("/")[2]
            raise ArtifactError(
                pickle_message(
                    label,
                    unsafe,
                    load=f"{ref.target!r}, revision={folder.name!r}",
                    config=read_config(folder, label=label),
                    save=save,
                    then=f"Then write './{save}@local'.",
                )
            )

    def _ask(self, ref: ModelRef, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:
            raise explain(error, ref, endpoint=self._api.endpoint) from error


def explain(error: Exception, ref: ModelRef, *, endpoint: str) -> EtError:
    """Say in our words what the Hub, or the way to it, answered."""
    # huggingface_hub wraps some refusals as "not in the cache".
    wrapped = isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, HfHubHTTPError)
    match error.__cause__ if wrapped else error:
        case HFValidationError():
            return RefError(f"{str(ref)!r} names no Hub repository. Write 'org/repo@hf'; a folder is './dir@local'.")
        case GatedRepoError():
            reason = "the repository is gated: its owner grants access by request."
            remedy = f"Ask for it at {endpoint}/{ref.target}, then run 'hf auth login' or set HF_TOKEN."
        case RepositoryNotFoundError():
            reason = f"{endpoint} has no repository {ref.target!r}, or it is private."
            remedy = "Check the spelling; for a private one run 'hf auth login' or set HF_TOKEN."
        case RevisionNotFoundError():
            reason = f"the repository has no revision {ref.revision!r}."
            remedy = f"Leave it out for the newest, or see {endpoint}/{ref.target}/commits for what exists."
        case LocalEntryNotFoundError() if constants.HF_HUB_OFFLINE:
            reason = f"it is not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids asking the Hub."
            remedy = f"Unset it once, or {_elsewhere(ref)}"
        case LocalEntryNotFoundError():
            reason = f"{endpoint} cannot be reached ({error.__cause__ or error}), and nothing is in the cache."
            remedy = f"Connect, or {_elsewhere(ref)}"
        case HfHubHTTPError(response=response) if response.status_code in (401, 403):
            reason = f"{endpoint} refused the request with status {response.status_code}."
            remedy = "The token in HF_TOKEN or of 'hf auth login' is not valid for it: log in again, or unset it."
        case other:
            reason = f"fetching it from {endpoint} failed: {type(other).__name__}: {other}"
            remedy = f"Try again, or {_elsewhere(ref)}"
    return NotFetchedError(ref, reason, remedy)


def _elsewhere(ref: ModelRef) -> str:
    revision = f" --revision {ref.revision}" if ref.revision else ""
    folder = ref.target.rpartition("/")[2]
    return (
        f"run 'hf download {ref.target}{revision} --local-dir {folder}' where there is a network, "
        f"copy that folder here and write './{folder}@local'."
    )
