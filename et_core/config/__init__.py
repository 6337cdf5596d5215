"""The settings of a run: their schema, how files and overrides become one, and messages with a key's path."""

from et_core.config.load import LoadedConfig, load_config
from et_core.config.overrides import Overrides
from et_core.config.ramp import Ramp, value_at
from et_core.config.schema import (
    ComponentConfig,
    DataConfig,
    DistillConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PluginsConfig,
    RunConfig,
    ScheduleConfig,
    SearchConfig,
    TokenizerConfig,
    TrainConfig,
    flatten,
    to_dict,
)
from et_core.config.validate import check_arguments, check_value

__all__ = [
    "ComponentConfig",
    "DataConfig",
    "DistillConfig",
    "LoadedConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "Overrides",
    "PluginsConfig",
    "Ramp",
    "RunConfig",
    "ScheduleConfig",
    "SearchConfig",
    "TokenizerConfig",
    "TrainConfig",
    "check_arguments",
    "check_value",
    "flatten",
    "load_config",
    "to_dict",
    "value_at",
]
