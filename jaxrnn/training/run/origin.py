"""Where a run begins: with parameters that are drawn, or with those of another run."""

from dataclasses import asdict, fields
from typing import Any, NamedTuple

from jaxrnn.data.subwords import AnyTokenizer, load_tokenizer
from jaxrnn.training.run.directory import RunDirectory, as_json_has_it
from jaxrnn.training.run.options import Options
from jaxrnn.training.run.reopen import read_options, read_params
from jaxrnn.training.store.checkpoint import CheckpointError
from jaxrnn.training.store.digest import digest_tree

# What a run that began with another keeps in its config of where that was.
ORIGIN = ("init_step", "init_sha256")


class Origin(NamedTuple):
    """The parameters of another run, at the step where they were the best."""

    params: Any
    step: int
    sha256: str

    @property
    def description(self) -> dict[str, Any]:
        """What a run that begins here keeps of it: it is not read again."""
        return dict(zip(ORIGIN, (self.step, self.sha256), strict=True))


def read_origin(options: Options, like: Any, opened_by: str | None) -> Origin:
    """What `options.init_from` has of the shapes of `like`.

    Raises ValueError if there is no run, or one of another problem or of other sizes.
    """
    path = options.init_from
    assert path is not None
    config = RunDirectory(path).read_config()
    if config.get("opened_by", opened_by) != opened_by:
        raise ValueError(
            f"cannot begin with {path}, the run of another problem: it is opened by "
            f"{config['opened_by']}, this one by {opened_by}"
        )
    try:
        restored = read_params(path, read_options(path, Options), like)
    except CheckpointError as error:
        told = unlike(options, config)
        raise ValueError(f"cannot begin with {path}: {error}{told}") from None
    return Origin(restored.state, restored.step, digest_tree(restored.state))


def unlike(options: Options, config: dict[str, Any]) -> str:
    """In which of an experiment's own options another run's config differs."""
    shared = {field.name for field in fields(Options)}
    own = {field.name for field in fields(options)} - shared
    now = as_json_has_it(asdict(options))
    differing = (
        f"{name} was {config[name]!r} and is now {getattr(options, name)!r}"
        for name in sorted(own & config.keys())
        if now[name] != config[name]
    )
    told = "; ".join(differing)
    return f" ({told})" if told else ""


def vocabulary_of(options: Options) -> RunDirectory | None:
    """The folder whose vocabulary a run takes along; None where it makes its own.

    Of a run that has begun it is its own folder: the one that it began with may be gone.
    Raises ValueError if there is no run to begin with.
    """
    if options.init_from is None:
        return None
    own, other = RunDirectory(options.run_dir), RunDirectory(options.init_from)
    if own.config.is_file():
        return own
    other.read_config()
    return other


def taken_along(options: Options, kind: str) -> AnyTokenizer | None:
    """The tokenizer of the run that a run begins with; None where it makes its own.

    Raises ValueError if it is of another kind.
    """
    folder = vocabulary_of(options)
    if folder is None:
        return None
    tokenizer = load_tokenizer(folder.tokenizer)
    if tokenizer.kind != kind:
        raise ValueError(
            f"{options.init_from} reads a {tokenizer.kind} at a time: cannot begin with it "
            f"and --tokens {kind}"
        )
    return tokenizer
