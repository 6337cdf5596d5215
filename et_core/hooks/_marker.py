import pluggy

PROJECT = "et"

API_VERSION = 1
"""A plugin states the number it was written for as ``ET_API`` in its ``_plugin`` module."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
