"""The memory that a process has taken."""

import sys

import jax


def peak_memory() -> dict[str, int]:
    """The most bytes at once, "host_peak_bytes" of this process and "device_peak_bytes" of
    the device of it that took the most; without what the system does not tell."""
    told = {}
    if (host := host_peak()) is not None:
        told["host_peak_bytes"] = host
    statistics = [device.memory_stats() or {} for device in jax.local_devices()]
    peaks = [one["peak_bytes_in_use"] for one in statistics if "peak_bytes_in_use" in one]
    return told | ({"device_peak_bytes": max(peaks)} if peaks else {})


def host_peak() -> int | None:
    try:
        import resource
    except ImportError:  # on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
