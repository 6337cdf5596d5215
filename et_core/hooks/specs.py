"""One hook for each kind of component. A hook registers strings; nothing is imported until a name is used."""

from __future__ import annotations

from et_core.hooks._marker import hookspec
from et_core.hooks._register import Register


class HookSpecs:
    """A plugin implements any of these as module-level functions of its ``_plugin`` module."""

    @hookspec
    def et_register_backbones(self, register: Register) -> None:
        """Model families: ``et_core.interfaces.Backbone`` classes."""

    @hookspec
    def et_register_heads(self, register: Register) -> None:
        """Output layers: ``et_core.interfaces.Head`` classes."""

    @hookspec
    def et_register_losses(self, register: Register) -> None:
        """Training losses: ``et_core.interfaces.Loss`` classes."""

    @hookspec
    def et_register_tokenizers(self, register: Register) -> None:
        """Tokenizers: ``et_core.interfaces.Tokenizer`` classes."""

    @hookspec
    def et_register_segmenters(self, register: Register) -> None:
        """Ways to find the words of a text: ``et_core.interfaces.Segmenter`` classes."""

    @hookspec
    def et_register_strategies(self, register: Register) -> None:
        """Ways to spread training over processes: ``et_core.interfaces.Strategy`` classes."""

    @hookspec
    def et_register_apps(self, register: Register) -> None:
        """Applications: ``et_core.interfaces.App`` classes."""

    @hookspec
    def et_register_objectives(self, register: Register) -> None:
        """What a training step minimises: ``et_core.interfaces.Objective`` classes."""

    @hookspec
    def et_register_distillers(self, register: Register) -> None:
        """Terms of the distillation objective: ``et_core.interfaces.Distiller`` classes."""

    @hookspec
    def et_register_augmenters(self, register: Register) -> None:
        """Ways to make more training rows: ``et_core.interfaces.Augmenter`` classes."""

    @hookspec
    def et_register_sources(self, register: Register) -> None:
        """Where weights come from: ``et_core.interfaces.Source`` classes."""

    @hookspec
    def et_register_presets(self, register: Register) -> None:
        """Named checkpoints of the zoo: ``et_core.interfaces.Preset`` objects."""

    @hookspec
    def et_register_metrics(self, register: Register) -> None:
        """Evaluation metrics: ``et_core.interfaces.Metric`` classes."""

    @hookspec
    def et_register_optimizers(self, register: Register) -> None:
        """Optimisers: ``et_core.interfaces.OptimizerFactory`` classes."""

    @hookspec
    def et_register_schedules(self, register: Register) -> None:
        """Learning-rate schedules: ``et_core.interfaces.Schedule`` classes."""

    @hookspec
    def et_register_trackers(self, register: Register) -> None:
        """Where logged figures also go: ``et_core.interfaces.Tracker`` classes; they act only when a run names them."""
