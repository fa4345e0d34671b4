"""What commands compile is kept for their next start."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxrnn.training.run.programs import keep_programs, processor

SCRIPT = """
import jax, jax.numpy as jnp
from jaxrnn.training.run import terminal

def main():
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3))).block_until_ready()
    print(folder)

terminal.run(main)
"""


def start(**environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=kept | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the folder is that of Linux")
def test_programs_are_kept_in_the_users_cache_folder_which_is_told_once(tmp_path):
    folder, told = start(XDG_CACHE_HOME=str(tmp_path))
    assert folder == str(tmp_path / "jaxrnn" / "programs" / processor())
    assert told == f"compiled programs are kept in {folder}\n"
    programs = sorted(os.listdir(folder))
    assert programs
    assert start(XDG_CACHE_HOME=str(tmp_path)) == (folder, "")
    assert sorted(os.listdir(folder)) == programs


@pytest.mark.slow
def test_a_folder_given_to_jax_is_left_alone(tmp_path):
    given = str(tmp_path / "given")
    folder, told = start(XDG_CACHE_HOME=str(tmp_path), JAX_COMPILATION_CACHE_DIR=given)
    assert (folder, told) == (given, "")
    assert not (tmp_path / "jaxrnn").exists()


def test_a_user_without_a_home_folder_goes_without(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    keep_programs()
    assert jax.config.jax_compilation_cache_dir is None


def test_a_cache_folder_that_cannot_be_made_changes_nothing(tmp_path):
    (tmp_path / "file").write_text("")
    folder, told = start(XDG_CACHE_HOME=str(tmp_path / "file"))
    assert (folder, told) == ("None", "")
