"""The suites of et_appzoo/conformance.py, where pytest finds them."""

from et_appzoo.conformance import *  # noqa: F403 - one that is not named here would not be run
