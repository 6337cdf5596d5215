from __future__ import annotations

from pathlib import Path

from et_core.errors import ArtifactError, RefError
from et_core.interfaces.artifact import Artifact
from et_core.interfaces.source import Source
from et_core.registry import ModelRef
from et_core.runfolder import verify_model
from et_core.sources.files import CONFIG, read_folder


class LocalSource(Source):
    """``./dir@local``: a folder laid out as transformers writes it; '~' is the home folder."""

    def resolve(self, ref: ModelRef) -> Artifact:
        label = repr(str(ref))
        if ref.revision:
            raise RefError(f"{label} has a revision, but a folder has none. Write '{ref.target}@local'.")
        folder = Path(ref.target).expanduser()
        _check_folder(folder, ref)
        verify_model(folder)
        files = read_folder(folder, label=label)
        return Artifact(
            ref, files.family, files.config, files.weights, files.tokenizer, files.license, origin=f"folder {folder}"
        )


def _check_folder(folder: Path, ref: ModelRef) -> None:
    label = repr(str(ref))
    if folder.is_file():
        raise ArtifactError(f"{label}: {folder} is a file. Name the folder that holds it: '{folder.parent}@local'.")
    if not folder.is_dir():
        raise ArtifactError(f"{label}: there is no folder {folder} (looked from {Path.cwd()}).")
    if not (folder / CONFIG).is_file() and (folder / "model" / CONFIG).is_file():
        target = ref.target.rstrip("/")
        raise ArtifactError(
            f"{label}: {folder} is a run folder. Its model is one level down: write '{target}/model@local'."
        )
