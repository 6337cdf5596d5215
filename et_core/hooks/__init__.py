"""What a plugin talks to: the hook specs, the ``hookimpl`` marker and the API number. Imports nothing heavy."""

from et_core.hooks._marker import API_VERSION, PROJECT, hookimpl
from et_core.hooks._register import Register
from et_core.hooks.specs import HookSpecs

__all__ = ["API_VERSION", "PROJECT", "HookSpecs", "Register", "hookimpl"]
