"""The named checkpoints of this package; their data is presets.json, which ``et zoo pin`` edits."""

from et_core.interfaces.preset import read_presets

PRESETS = read_presets("et_bert")
