"""Hypothesis profiles: dev (default), ci, deep; chosen with HYPOTHESIS_PROFILE."""

import os
import signal

from hypothesis import HealthCheck, settings

common = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.differing_executors],
}
settings.register_profile("dev", max_examples=10, **common)
settings.register_profile("ci", max_examples=20, derandomize=True, **common)
settings.register_profile("deep", max_examples=300, **common)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # so a shell starts what runs behind it
    signal.signal(signal.SIGINT, signal.default_int_handler)
