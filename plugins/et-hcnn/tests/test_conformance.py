"""The suites of et_hcnn/conformance.py, where pytest finds them."""

from et_hcnn.conformance import *  # noqa: F403 - one that is not named here would not be run
