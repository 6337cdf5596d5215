"""Checks of how a backbone is built, saved and loaded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf

from et_core.errors import ConfigError
from et_core.interfaces import Backbone, Model, Tokenizer, build_backbone, check_backbone_options
from et_core.registry import registry
from et_core.runfolder import write_model
from et_core.sources import resolve
from et_core.testing.backbone.base import BackboneSuite
from et_core.testing.backbone.offline import no_network
from et_core.testing.backbone.reload import numbered, reload
from et_core.testing.compare import compare, compare_rows, rows_of
from et_core.testing.suite import CheckFailed, check

_UNKNOWN = "no_such_option"


def _no_weights(suite: BackboneSuite) -> str | None:
    return None if suite.loads_weights else "loads_weights is False: training cannot start from a saved one"


def _no_image(suite: BackboneSuite) -> str | None:
    return None if "image" in suite.component().accepts else "it accepts no images"


class FileChecks(BackboneSuite):
    @check()
    def it_builds_offline(self) -> None:
        """Many train where there is no network. Weights come from the artifact, sizes from the options.

        A library that asks the Hub for a name is given a config instead, or ``local_files_only``.
        """
        tokenizer = self.its_tokenizer()
        with no_network() as calls:
            error = _attempt(self, tokenizer)
        if calls:
            raise CheckFailed(f"building it calls {calls[0]}.")
        if error is not None:
            raise error

    @check()
    def its_config_survives_files(self) -> None:
        """Options are written to config.yaml and et.json and read again; a resumed run has to find the same ones.

        Use numbers, text, lists and dicts in ``Options``, with types.
        """
        options = self.options()
        try:
            copies = {"JSON": json.loads(json.dumps(options)), "OmegaConf": _through_omegaconf(options)}
        except (TypeError, ValueError) as error:
            raise CheckFailed(f"the options {options} cannot be written: {error}") from error
        expected = check_backbone_options(self.name, options)
        for name, copied in copies.items():
            found = check_backbone_options(self.name, copied)
            if found != expected:
                raise CheckFailed(f"after {name} the options are {found}, not {expected}.")

    @check()
    def wrong_options_are_refused(self) -> None:
        """A misspelt key that is passed over costs a day of training with the default.

        Give every field of ``Options`` a type of its own, not ``Any`` and not a dict of whatever another library takes.
        """
        options = self.options()
        try:
            check_backbone_options(self.name, {**options, _UNKNOWN: 1})
        except ConfigError as error:
            if f"model.{_UNKNOWN}" not in str(error):
                raise CheckFailed(f"the unknown option {_UNKNOWN!r} is refused without its name: {error}") from error
        else:
            raise CheckFailed(f"the unknown option {_UNKNOWN!r} is taken without an error.")
        for field in dataclasses.fields(self.component().Options):
            if _takes_anything(self.name, options, field.name):
                raise CheckFailed(f"the option {field.name} takes anything, such as [{{'a': None}}]. Give it a type.")

    @check()
    def its_config_names_the_family(self) -> None:
        """``model_type`` in config.json is how a saved model is recognised: write the registered name there."""
        config = self.built().config({})
        try:
            json.dumps(config)
        except TypeError as error:
            raise CheckFailed(f"config({{}}) cannot be written as JSON: {error}.") from error
        found, families = config.get("model_type"), registry(self.kind)
        if found not in families or families.find(str(found)) != families.find(self.name):
            raise CheckFailed(f"config({{}}) has the model_type {found!r}, not {families.find(self.name).name!r}.")

    @check()
    def it_loads_in_a_new_process(self) -> None:
        """A saved model that answers otherwise the next day is lost.

        Keep in parameters and buffers what ``build`` cannot make again from the options; ``layout`` names them all.
        """
        backbone = self.built()
        folder = self.saved(backbone)
        batches = [maker.batch((7, 4), (4, 7), (1, 1), extra=1) for maker in self.makers()]
        state, *answers = reload(folder, backbone.family, dict(backbone.options), batches)
        compare(state, dict(backbone.state_dict()), what="saving, and loading in a new process,")
        for inputs, answer in zip(batches, answers, strict=True):
            with torch.no_grad():
                expected = numbered(rows_of(backbone(inputs)))
            compare(answer, expected, what="saving, and loading in a new process,")

    @check(unless=_no_weights)
    def training_can_start_from_it(self) -> None:
        """``model: ./runs/a/model@local`` goes on from what was learned there, in the sizes it has.

        ``build`` reads sizes that the options leave open from ``artifact.config`` and weights from
        ``artifact.weights``. Fresh weights without a word would look like a bad model.
        """
        backbone = self.built()
        artifact = resolve(f"{self.saved(backbone)}@local")
        options = {name: value for name, value in self.options().items() if name == "marks"}
        again = build_backbone(self.name, options, tokenizer=self.its_tokenizer(), artifact=artifact)
        what = "starting from a saved model"
        compare(again.layout({}), backbone.layout({}), what=what)
        # Marks begin anew. With all weights equal, what is left is what no weight shows, such as a number of heads.
        again.load_state_dict(backbone.state_dict())
        again.eval()
        for maker in self.makers():
            inputs = maker.batch(7, 4)
            with torch.no_grad():
                compare_rows(rows_of(again(inputs)), rows_of(backbone(inputs)), what=what)

    @check(unless=_no_image)
    def its_processor_makes_images_fit(self) -> None:
        """Apps hand pictures to ``processor()`` and give the backbone what it returns, one row a picture."""
        backbone, images = self.built(), self.images(3)
        processor = backbone.processor()
        if processor is None:
            raise CheckFailed('it accepts "image", but processor() gives None: no app can make images fit for it.')
        found = processor(images)
        if not isinstance(found, np.ndarray) or len(found) != len(images):
            raise CheckFailed(
                f"processor() makes {type(found).__name__} of {len(images)} images, not an array of rows."
            )
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise CheckFailed("processor() gives nan or infinity.")
        for index, image in enumerate(images):
            if not np.array_equal(processor([image])[0], found[index]):
                raise CheckFailed(f"processor() gives image {index} otherwise alone than among others.")

    def saved(self, backbone: Backbone) -> Path:
        """A new folder with the files that a run writes of *backbone* and its tokenizer."""
        folder = self.folder()
        write_model(Model(backbone, {}), folder)
        self.its_tokenizer().save(folder)
        return folder


def _attempt(suite: BackboneSuite, tokenizer: Tokenizer) -> Exception | None:
    """Build and run it; what it raises may well be that there is no network."""
    try:
        build_backbone(suite.name, suite.options(), tokenizer=tokenizer)(suite.makers()[0].batch(3))
    except Exception as error:  # noqa: BLE001 - told apart by whoever asked
        return error
    return None


def _through_omegaconf(options: Mapping[str, Any]) -> dict[str, Any]:
    written = OmegaConf.to_yaml(OmegaConf.create(dict(options)))
    read: Any = OmegaConf.to_container(OmegaConf.create(written))
    return dict(read)


def _takes_anything(name: str, options: Mapping[str, Any], option: str) -> bool:
    try:
        check_backbone_options(name, {**options, option: [{"a": None}]})
    except ConfigError:
        return False
    return True
