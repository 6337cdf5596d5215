"""What a plugin subclasses, and the data that passes between the parts of a run."""

from typing import TYPE_CHECKING

from et_core._lazy import exports

if TYPE_CHECKING:
    from et_core.config import Ramp, value_at
    from et_core.interfaces.app import App, HeadSpec, LossSpec, Role, RunModel
    from et_core.interfaces.artifact import Artifact
    from et_core.interfaces.augmenter import Augmenter, Texts
    from et_core.interfaces.backbone import Backbone, Generates, Processor, Search
    from et_core.interfaces.building import (
        build_augmenter,
        build_backbone,
        build_component,
        build_distiller,
        build_model,
        check_backbone_options,
        check_options,
    )
    from et_core.interfaces.distiller import Distiller
    from et_core.interfaces.embeds import Embeds
    from et_core.interfaces.evaluation import Evaluation, Metric
    from et_core.interfaces.example import Example, Row
    from et_core.interfaces.figures import Bars, Examples, Figure, Front, Graph, Matrix, Point, Scatter
    from et_core.interfaces.head import Head
    from et_core.interfaces.inputs import Batch, Features, Inputs, Observed, Text
    from et_core.interfaces.loss import Loss
    from et_core.interfaces.model import Model, accepted_by, provided_by
    from et_core.interfaces.objective import Objective, Phase, Share, Step, Term
    from et_core.interfaces.optimization import OptimizerFactory, Schedule
    from et_core.interfaces.preset import Preset, Provider, read_presets
    from et_core.interfaces.segmenter import Segmenter
    from et_core.interfaces.source import Source
    from et_core.interfaces.stored import check_stored, load_weights
    from et_core.interfaces.strategy import MakeOptimizers, Prepared, Strategy
    from et_core.interfaces.tokenizer import Encoded, Tokenizer
    from et_core.interfaces.tracker import Tracker

__all__ = [
    "App",
    "Artifact",
    "Augmenter",
    "Backbone",
    "Bars",
    "Batch",
    "Distiller",
    "Embeds",
    "Encoded",
    "Evaluation",
    "Example",
    "Examples",
    "Features",
    "Figure",
    "Front",
    "Generates",
    "Graph",
    "Head",
    "HeadSpec",
    "Inputs",
    "Loss",
    "LossSpec",
    "MakeOptimizers",
    "Matrix",
    "Metric",
    "Model",
    "Objective",
    "Observed",
    "OptimizerFactory",
    "Phase",
    "Point",
    "Prepared",
    "Preset",
    "Processor",
    "Provider",
    "Ramp",
    "Role",
    "Row",
    "RunModel",
    "Scatter",
    "Schedule",
    "Search",
    "Segmenter",
    "Share",
    "Source",
    "Step",
    "Strategy",
    "Term",
    "Text",
    "Texts",
    "Tokenizer",
    "Tracker",
    "accepted_by",
    "build_augmenter",
    "build_backbone",
    "build_component",
    "build_distiller",
    "build_model",
    "check_backbone_options",
    "check_options",
    "check_stored",
    "load_weights",
    "provided_by",
    "read_presets",
    "value_at",
]

_ORIGINS = {
    "App": "et_core.interfaces.app",
    "Artifact": "et_core.interfaces.artifact",
    "Augmenter": "et_core.interfaces.augmenter",
    "Backbone": "et_core.interfaces.backbone",
    "Bars": "et_core.interfaces.figures",
    "Batch": "et_core.interfaces.inputs",
    "Distiller": "et_core.interfaces.distiller",
    "Embeds": "et_core.interfaces.embeds",
    "Encoded": "et_core.interfaces.tokenizer",
    "Evaluation": "et_core.interfaces.evaluation",
    "Example": "et_core.interfaces.example",
    "Examples": "et_core.interfaces.figures",
    "Features": "et_core.interfaces.inputs",
    "Figure": "et_core.interfaces.figures",
    "Front": "et_core.interfaces.figures",
    "Generates": "et_core.interfaces.backbone",
    "Graph": "et_core.interfaces.figures",
    "Head": "et_core.interfaces.head",
    "HeadSpec": "et_core.interfaces.app",
    "Inputs": "et_core.interfaces.inputs",
    "Loss": "et_core.interfaces.loss",
    "LossSpec": "et_core.interfaces.app",
    "MakeOptimizers": "et_core.interfaces.strategy",
    "Matrix": "et_core.interfaces.figures",
    "Metric": "et_core.interfaces.evaluation",
    "Model": "et_core.interfaces.model",
    "Objective": "et_core.interfaces.objective",
    "Observed": "et_core.interfaces.inputs",
    "OptimizerFactory": "et_core.interfaces.optimization",
    "Phase": "et_core.interfaces.objective",
    "Point": "et_core.interfaces.figures",
    "Prepared": "et_core.interfaces.strategy",
    "Preset": "et_core.interfaces.preset",
    "Processor": "et_core.interfaces.backbone",
    "Provider": "et_core.interfaces.preset",
    "Ramp": "et_core.config",
    "Role": "et_core.interfaces.app",
    "Row": "et_core.interfaces.example",
    "RunModel": "et_core.interfaces.app",
    "Scatter": "et_core.interfaces.figures",
    "Schedule": "et_core.interfaces.optimization",
    "Search": "et_core.interfaces.backbone",
    "Segmenter": "et_core.interfaces.segmenter",
    "Source": "et_core.interfaces.source",
    "Share": "et_core.interfaces.objective",
    "Step": "et_core.interfaces.objective",
    "Strategy": "et_core.interfaces.strategy",
    "Term": "et_core.interfaces.objective",
    "Text": "et_core.interfaces.inputs",
    "Texts": "et_core.interfaces.augmenter",
    "Tokenizer": "et_core.interfaces.tokenizer",
    "Tracker": "et_core.interfaces.tracker",
    "accepted_by": "et_core.interfaces.model",
    "build_augmenter": "et_core.interfaces.building",
    "build_backbone": "et_core.interfaces.building",
    "build_component": "et_core.interfaces.building",
    "build_distiller": "et_core.interfaces.building",
    "build_model": "et_core.interfaces.building",
    "check_backbone_options": "et_core.interfaces.building",
    "check_options": "et_core.interfaces.building",
    "check_stored": "et_core.interfaces.stored",
    "load_weights": "et_core.interfaces.stored",
    "provided_by": "et_core.interfaces.model",
    "read_presets": "et_core.interfaces.preset",
    "value_at": "et_core.config",
}

__getattr__, __dir__ = exports(__name__, _ORIGINS)
