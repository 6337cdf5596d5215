"""The settings of a run: their schema, how files and overrides become one, and messages with a key's path."""

from et_core.config.load import LoadedConfig, load_config
from et_core.config.overrides import Overrides
from et_core.config.schema import (
    ComponentConfig,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    PluginsConfig,
    RunConfig,
    ScheduleConfig,
    TrainConfig,
    flatten,
    to_dict,
)
from et_core.config.validate import check_arguments

__all__ = [
    "ComponentConfig",
    "DataConfig",
    "LoadedConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Overrides",
    "PluginsConfig",
    "RunConfig",
    "ScheduleConfig",
    "TrainConfig",
    "check_arguments",
    "flatten",
    "load_config",
    "to_dict",
]
