"""The suites of et_adabert/conformance.py, where pytest finds them."""

from et_adabert.conformance import *  # noqa: F403 - one that is not named here would not be run
