"""tpu_check: what it reads off a compiled program, what it says, and two presets."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

import chex
import jax
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

import jaxrnn
from experiments.speed import tpu_check
from experiments.speed.tpu import compiling, made_up, on_paper, programs, resident
from experiments.speed.tpu.hlo import Cycles, Module, counted, in_loops
from jaxrnn.training.mesh import everywhere, placed_like
from jaxrnn.training.state import count

COST = 'backend_config={"window_config":{"estimated_cycles":"%d"}}'

PROGRAM = f"""\
HloModule jit_step, is_scheduled=true, num_partitions=4

%product (a: f32[5,8], w: f32[8,8]) -> f32[5,8] {{
  %a = f32[5,8]{{1,0}} parameter(0)
  %w = f32[8,8]{{1,0}} parameter(1)
  ROOT %convolution.1 = f32[5,8]{{1,0}} convolution(%a, %w), dim_labels=bf_io->bf
}}

%gathering (p: f32[5,2]) -> f32[5,8] {{
  %p = f32[5,2]{{1,0}} parameter(0)
  ROOT %all-gather.1 = f32[5,8]{{1,0}} all-gather(%p), metadata={{op_name="step/while/dot"}}
}}

%inner_body (c: (s32[], f32[5,8])) -> (s32[], f32[5,8]) {{
  %c = (s32[], f32[5,8]{{1,0}}) parameter(0)
  %h = f32[5,8]{{1,0}} get-tuple-element(%c), index=1
  %fusion.1 = f32[5,8]{{1,0}} fusion(%h, %h), kind=kOutput, calls=%product, {COST % 30}
  %tanh.1 = f32[5,8]{{1,0}} tanh(%fusion.1), {COST % 10}
  INSIDE
  ROOT %tuple.1 = (s32[], f32[5,8]{{1,0}}) tuple(%c, %tanh.1)
}}

%inner_condition (c.1: (s32[], f32[5,8])) -> pred[] {{
  %seven = s32[] constant(7)
  %c.1 = (s32[], f32[5,8]{{1,0}}) parameter(0)
  %t = s32[] get-tuple-element(%c.1), index=0
  ROOT %lt.1 = pred[] compare(%t, %seven), direction=LT
}}

%outer_body (d: (s32[], f32[5,8])) -> (s32[], f32[5,8]) {{
  %d = (s32[], f32[5,8]{{1,0}}) parameter(0)
  ROOT %while.1 = (s32[], f32[5,8]{{1,0}}) while(%d), condition=%inner_condition, \
body=%inner_body, metadata={{op_name="step/while/body/while"}}
}}

%outer_condition (d.1: (s32[], f32[5,8])) -> pred[] {{
  %d.1 = (s32[], f32[5,8]{{1,0}}) parameter(0)
  %three = s32[] constant(3)
  %n = s32[] get-tuple-element(%d.1), index=0
  ROOT %lt.2 = pred[] compare(%n, %three), direction=LT
}}

%cheap (e: f32[]) -> f32[] {{
  %e = f32[] parameter(0)
  ROOT %negate.1 = f32[] negate(%e), {COST % 1}
}}

%dear (f: f32[]) -> f32[] {{
  %f = f32[] parameter(0)
  ROOT %exponential.1 = f32[] exponential(%f), {COST % 5}
}}

ENTRY %main (x: (s32[], f32[5,8]), which: s32[], g: f32[]) -> f32[] {{
  %x = (s32[], f32[5,8]{{1,0}}) parameter(0)
  %which = s32[] parameter(1)
  %g = f32[] parameter(2)
  %while.2 = (s32[], f32[5,8]{{1,0}}) while(%x), condition=%outer_condition, \
body=%outer_body, metadata={{op_name="step/while"}}
  %conditional.1 = f32[] conditional(%which, %g, %g), \
branch_computations={{%cheap, %dear}}
  %all-reduce-start.1 = f32[] all-reduce-start(%conditional.1), to_apply=%cheap
  ROOT %all-reduce-done.1 = f32[] all-reduce-done(%all-reduce-start.1), {COST % 100}
}}
"""

QUIET = PROGRAM.replace("  INSIDE\n", "")


def test_a_collective_outside_the_loops_is_no_fault():
    module = Module.parse(QUIET)
    assert counted(module.collectives) == {"all-reduce": 1}
    assert not in_loops(module.collectives)


@pytest.mark.parametrize(
    "line, kind",
    [
        ("%g.1 = f32[5,8]{1,0} all-gather(%h), dimensions={1}", "all-gather"),
        ("%r.1 = (f32[5,8]{1,0}, u32[]) all-reduce(%h), to_apply=%cheap", "all-reduce"),
        ("%s.1 = f32[5,8]{1,0} collective-permute-start(%h)", "collective-permute"),
        ("%f.1 = f32[5,8]{1,0} fusion(%h), kind=kCustom, calls=%gathering", "all-gather"),
        ("%a.1 = (f32[5,2]{1,0}) async-start(%h), calls=%gathering", "all-gather"),
    ],
    ids=["itself", "of a tuple", "begun", "in a fusion", "in an async call"],
)
def test_a_collective_in_a_loop_is_found_wherever_it_hides(line, kind):
    (found,) = in_loops(Module.parse(PROGRAM.replace("INSIDE", line)).collectives)
    assert found.kind == kind
    assert found.loop is not None
    assert found.loop.place == "step/while/body/while"


def test_loops_tell_their_turns_or_that_they_do_not():
    assert [loop.turns for loop in Module.parse(QUIET).loops] == [3, 7]
    strange = QUIET.replace("%seven = s32[] constant(7)", "%seven = s32[] parameter(1)")
    assert [loop.turns for loop in Module.parse(strange).loops] == [3, None]


def test_cycles_count_a_loop_as_often_as_it_turns_and_the_dearest_branch():
    inside = 3 * 7 * (30 + 10)
    assert Module.parse(QUIET).cycles == Cycles(inside + 5 + 100, inside, 3 * 7 * 30)


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        Module.parse("HloModule nothing")


GOOD = {
    **{"program": "step", "chip": "v5e", "chips": 4, "compiles": True, "seconds": 1.0},
    **{"MiB": 10.0, "of": 16384, "fits": True, "in loops": ""},
}


@pytest.mark.parametrize(
    "row, said",
    [
        (GOOD, None),
        (GOOD | {"in loops": "all-gather of f32[5,8] in while/dot"}, "in a loop.*gather"),
        (GOOD | {"fits": False, "MiB": 2e4}, "does not fit.*20000.0 of 16384 MiB"),
        (GOOD | {"compiles": False, "why": "no such thing"}, "not compile: no such thing"),
    ],
    ids=["well", "in a loop", "too large", "not compiled"],
)
def test_what_is_wrong_with_a_program_is_said_in_a_sentence(row, said):
    result = tpu_check.judged(row, "music tiny")
    assert result["ok"] is (said is None)
    assert ("wrong" in result) is (said is not None)
    report = "\n".join(tpu_check.body([{"probe": "music tiny", "rows": [result]}]))
    assert "| music tiny | " in report
    if said:
        assert re.search(f"music tiny, step.*{said}", report)
        assert "**fails**" in report


def test_every_preset_has_a_probe_and_a_wrong_name_is_refused():
    names = {probe.name for probe in tpu_check.find_probes(None, ["v5e"])}
    presets = sum(len(e.presets) for e in made_up.EXPERIMENTS.values())
    assert len(names) == presets + len(resident.CASES)
    with pytest.raises(ValueError, match="begins with violin"):
        tpu_check.find_probes(["violin"], ["v5e"])


@pytest.mark.parametrize("name", made_up.EXPERIMENTS)
def test_made_up_data_has_the_sizes_that_the_files_are_said_to_have(name):
    presets = made_up.EXPERIMENTS[name].presets
    trainer = made_up.trainer(name, "tiny" if "tiny" in presets else "2x650")
    assert trainer.like.params


def test_without_libtpu_one_sentence_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(tpu_check, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["tpu_check"])
    with pytest.raises(SystemExit) as ended:
        tpu_check.main()
    assert ended.value.code == 2
    assert f"pip install 'jax[tpu]=={jax.__version__}'" in capsys.readouterr().err


needs_libtpu = pytest.mark.skipif(
    find_spec("libtpu") is None, reason="no libtpu: the extra tpu has it"
)


@needs_libtpu
def test_two_presets_compile_for_a_tpu_that_is_not_there(tmp_path):
    command = [sys.executable, "-m", "experiments.speed.tpu_check", "--out", tmp_path]
    command += ["--chips", "v5e", "--only", "language_model tiny", "music tiny"]
    subprocess.run(command, check=True, env={**os.environ, "JAX_PLATFORMS": "cpu"})
    report = json.loads((tmp_path / "tpu.json").read_text())
    assert "NOTHING BELOW RAN ON A TPU" in report["hardware"]
    rows = [row for found in report["results"] for row in found["rows"]]
    names = [row["program"] for row in rows]
    assert names == ["step", "evaluation", "sampler", "step", "evaluation"]
    assert all(row["turns"] for row in rows)
    assert rows[0]["collectives"] and rows[3]["collectives"]


@needs_libtpu
def test_weights_that_the_chips_share_are_seen_to_be_gathered_at_every_step(monkeypatch):
    for name, value in tpu_check.WITHOUT_A_TPU.items():
        monkeypatch.setenv(name, value)
    mesh = Mesh(programs.describe("v5e:2x2"), ("data",), axis_types=(AxisType.Auto,))
    cell = jaxrnn.LSTM(128, 128)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0)))
    params = placed_like(params, lambda leaf: PartitionSpec("data"), mesh)
    xs = jax.ShapeDtypeStruct((50, 8, 128), np.float32)
    xs = placed_like(xs, everywhere, mesh)
    run = jax.jit(lambda params, xs: jaxrnn.unroll(cell, params, xs))
    row = compiling.compiled(lambda: run.lower(params, xs), "v5e")
    about = {"program": "step", "chip": "v5e", "chips": 4}
    assert "collective in a loop" in tpu_check.judged(about | row, "mine")["wrong"]


def longest(problem):
    """Of all batches, the time steps of the longest one."""
    rows = np.arange(problem.rows)
    batches = [problem.batch(step, rows) for step in range(300)]
    for split in ("valid", "test"):
        batches += problem.evaluation(split) or []
    return max(len(jax.tree.leaves(batch)[0]) for batch in batches)


@pytest.mark.skipif(
    "JAXRNN_DATA" not in os.environ, reason="JAXRNN_DATA names no data sets"
)
@pytest.mark.parametrize(
    "name, preset, data",
    [
        ("language_model", "char", "tinyshakespeare"),
        ("language_model", "ptb-small", "ptb"),
        ("music", "bai-jsb-lstm", None),
        ("music", "bai-nottingham-lstm", None),
        ("sentiment", "mr", None),
        ("translation", "de-en", None),
    ],
)
def test_made_up_data_is_as_large_as_the_real(name, preset, data):
    made = made_up.trainer(name, preset)
    config = made_up.EXPERIMENTS[name].presets[preset][1]
    read = import_module(f"experiments.{name}.problem").make_problem
    real = config.make_trainer(read(replace(config, data=data) if data else config))
    chex.assert_trees_all_equal_shapes(real.like.params, made.like.params)
    assert longest(real.problem) == longest(made.problem)


def test_on_paper_a_model_has_the_parameters_that_it_has():
    for case in on_paper.CASES[:3]:
        params = made_up.trainer("larger", case.preset).like.params
        # Biases are left out.
        assert 0.99 < case.parameters / count(params) <= 1


def test_on_paper_exchanges_cost_more_the_less_a_chip_has_to_do():
    few, many = (on_paper.Case("4x2048", rows) for rows in (8, 64))
    for chip in on_paper.CHIPS.values():
        one, all_ = on_paper.seconds(few, chip, 64), on_paper.seconds(many, chip, 64)
        assert one["gradients"] == all_["gradients"] and one["loops"] < all_["loops"]
        assert one["products"] < all_["products"] and one["h"] == 0
