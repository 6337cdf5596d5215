"""The suites of et_bert/conformance.py, where pytest finds them."""

from et_bert.conformance import *  # noqa: F403 - one that is not named here would not be run
