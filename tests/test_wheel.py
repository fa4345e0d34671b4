"""The wheel holds the commands too, beside what other people have of the same names."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from experiments import __main__ as dispatcher

ROOT = Path(__file__).parent.parent


def done(command, **options):
    finished = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, **options
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of an environment with the wheel, and of no checkout."""
    pytest.importorskip("setuptools", reason="no setuptools to build the wheel with")
    home = tmp_path_factory.mktemp("wheel")
    source = home / "source"
    for name in ("jaxrnn", "experiments"):
        shutil.copytree(ROOT / name, source / name)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--quiet"]
    build = ["wheel", source, "--no-build-isolation", *offline, "-w", home]
    done([*pip, *build])
    (wheel,) = home.glob("*.whl")
    venv.create(home / "venv", symlinks=True)
    (site,) = home.glob("venv/lib/*/site-packages")
    done([*pip, "--python", home / "venv/bin/python", "install", *offline, wheel])
    # All else that it needs, as it is installed here.
    (site / "here.pth").write_text(sysconfig.get_path("purelib"))
    (home / "elsewhere").mkdir()
    return home


def run(home, *command):
    environment = {name: x for name, x in os.environ.items() if name != "PYTHONPATH"}
    return done(
        [home / "venv/bin" / command[0], *command[1:]],
        cwd=home / "elsewhere",
        env=environment,
    )


@pytest.mark.slow
def test_the_commands_come_with_the_wheel(installed):
    assert "jaxrnn sentiment predict" in run(installed, "jaxrnn")
    small = ["--cell", "elman", "--hidden-size", "4", "--embedding-size", "4"]
    small += ["--eval-batches", "1", "--sample-length", "9"]
    out = run(installed, "jaxrnn", "train", "demo", "--steps", "2", *small)
    assert "step 2/2" in out
    (told,) = [line for line in out.splitlines() if line.startswith("sample: ")]
    assert "-m jaxrnn.experiments.language_model.sample runs/demo" in told
    assert "step 2: good" in run(installed, "jaxrnn", "verify", "runs/demo")
    # A folder of the user's own of that name is in nobody's way.
    (installed / "elsewhere/experiments/language_model").mkdir(parents=True)
    (installed / "elsewhere/experiments/language_model/run.py").write_text("1 / 0\n")
    load = "import jaxrnn; model = jaxrnn.load('runs/demo'); print(model('a', 3))"
    assert run(installed, "python", "-c", load).startswith("a")
    config = json.loads((installed / "elsewhere/runs/demo/config.json").read_text())
    assert config["opened_by"] == "experiments.language_model.run:Trained"


def test_the_wheel_has_one_name_at_the_top_and_every_module(installed):
    (site,) = installed.glob("venv/lib/*/site-packages")
    assert {path.name for path in site.iterdir() if path.is_dir()} == {
        "jaxrnn",
        f"jaxrnn-{jaxrnn_version()}.dist-info",
    }
    for name, place in (("jaxrnn", "jaxrnn"), ("experiments", "jaxrnn/experiments")):
        modules = {path.relative_to(ROOT / name) for path in (ROOT / name).rglob("*.py")}
        modules = {path for path in modules if path.parts[0] != "speed"}
        assert all((site / place / path).is_file() for path in modules)


def jaxrnn_version():
    import jaxrnn

    return jaxrnn.__version__


def test_a_command_is_found_by_its_words():
    package = "experiments"
    for words, module, rest in [
        (["train", "char"], "language_model.train", ["char"]),
        (["language-model", "sample", "x"], "language_model.sample", ["x"]),
        (["state_tracking", "train"], "state_tracking.train", []),
        (["state-tracking", "report", "-h"], "state_tracking.report", ["-h"]),
    ]:
        assert dispatcher.find(words) == (f"{package}.{module}", rest)
    assert dispatcher.find(["verify", "x"]) == ("jaxrnn.training.verify", ["x"])
    assert dispatcher.find(["report", "x"]) == ("jaxrnn.report", ["x"])
    for words, told in [
        (["trian"], "no 'trian' among language_model, long_lag"),
        (["music"], "music needs one of plot, train, got ''"),
        (["music", "sample"], "music needs one of plot, train, got 'sample'"),
    ]:
        with pytest.raises(ValueError, match=told):
            dispatcher.find(words)


def test_the_overview_has_every_command_and_fits_a_screen(call):
    code, out, _ = call(dispatcher.main)
    assert code == 0 and max(map(len, out.splitlines())) < 80
    for words in ("train", "translation translate", "long-lag plot"):
        assert f"\n  jaxrnn {words} " in out


def test_a_refusal_is_one_sentence(call):
    code, out, error = call(dispatcher.main, "trian")
    assert (code, out, error.count("\n")) == (2, "", 1)
