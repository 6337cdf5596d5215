"""The suites of et_core/conformance.py, where pytest finds them."""

from et_core.conformance import *  # noqa: F403 - one that is not named here would not be run
