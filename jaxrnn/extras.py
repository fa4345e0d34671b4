"""What only some need, and installs as an extra."""

from importlib.util import find_spec


def require(module: str, extra: str) -> None:
    """Raises ImportError, naming the extra that brings it, where `module` is missing."""
    if find_spec(module) is None:
        raise ImportError(f"{module} is missing: pip install 'jaxrnn[{extra}]' brings it")
