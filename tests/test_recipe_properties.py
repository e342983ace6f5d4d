"""Any recipe survives the way to disk and back, and so do its control and its smoke version."""

from __future__ import annotations

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from edgedistill.recipe import (
    Augment,
    BornAgain,
    Data,
    Export,
    Network,
    Recipe,
    Recursive,
    Student,
    Teacher,
    Term,
    Train,
    decode,
    digest,
    encode,
)

DISTILLED = """
name = "tiny"
distill = [{loss = "kd"}]
data = {source = "embedded"}
student = {model = "timm:mobilenetv2_035"}
train = {epochs = 2}
"""
NUMBERS = st.floats(1e-6, 1e6)
FRACTIONS = st.floats(0, 1)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True)
TRIPLES = st.tuples(NUMBERS, NUMBERS, NUMBERS)
ARGS = st.dictionaries(TEXT, st.booleans() | st.integers(-(2**63), 2**63 - 1) | NUMBERS | TEXT | st.lists(TEXT, max_size=2), max_size=3)
NORMALIZATION = st.none() | st.tuples(TRIPLES, TRIPLES)
WEIGHTS = st.none() | st.just("pretrained") | NAMES.map(lambda name: f"/weights/{name}")


@st.composite
def networks(draw: st.DrawFn, kind: type[Network]) -> Network:
    mean, std = draw(NORMALIZATION) or (None, None)
    return kind(
        model=f"timm:{draw(NAMES)}",
        weights=draw(WEIGHTS),
        args=draw(ARGS),
        input_size=draw(st.none() | st.integers(1, 512)),
        strides=draw(st.none() | st.lists(st.sampled_from([1, 2]), max_size=5)),
        mean=mean,
        std=std,
        licence=draw(st.none() | TEXT),
    )


AUGMENTS = st.builds(
    Augment,
    flip=st.booleans(),
    scale=st.tuples(st.floats(0.1, 1), st.floats(1, 4)),
    aspect=st.floats(1, 4),
    shift=FRACTIONS,
    rotate_deg=st.floats(0, 180),
    erase=st.floats(0, 0.5),
    border=st.sampled_from(["reflect", "black"]),
)
RECIPES = st.builds(
    Recipe,
    name=NAMES,
    seed=st.integers(0, 2**31 - 1),
    data=st.builds(
        Data,
        source=st.sampled_from(["embedded", "torchvision:CIFAR10", "folder:/data/x y"]),
        root=st.none() | st.just("/downloads"),
        validation=st.floats(0.01, 0.99),
        train_limit=st.none() | st.integers(1, 10**6),
        views=st.none() | st.integers(1, 100),
        augment=AUGMENTS,
    ),
    student=networks(Student),
    teacher=st.none() | networks(Teacher) | st.lists(networks(Teacher), min_size=1, max_size=2).map(tuple),
    schedule=st.sampled_from([None, BornAgain(generations=3)])
    | st.builds(Recursive, assistants=st.lists(networks(Student), min_size=1, max_size=2).map(tuple)),
    distill=st.lists(
        st.builds(Term, loss=TEXT, weight=NUMBERS, temperature=NUMBERS, label_smoothing=st.floats(0, 0.99)), min_size=1, max_size=3
    ).map(tuple),
    train=st.builds(
        Train, epochs=st.integers(1, 1000), lr=NUMBERS, clip_grad_norm=st.none() | NUMBERS, threads=st.none() | st.integers(1, 64)
    ),
    export=st.builds(Export, formats=st.sampled_from([(), ("onnx",), ("tflite", "onnx")]), int8=st.booleans(), min_agreement=FRACTIONS),
)


@given(RECIPES)
def test_any_recipe_survives_encode_and_decode(whole: Recipe) -> None:
    text = encode(whole)
    assert decode(text) == whole
    assert decode(text, folder=Path("/elsewhere")) == whole
    assert encode(decode(text)) == text
    assert digest(decode(text)) == digest(whole)


@given(RECIPES)
def test_any_recipe_survives_with_relative_weights(whole: Recipe) -> None:
    folder = Path("/runs/one")
    assert decode(encode(whole, relative_to=folder), folder=folder) == whole


@given(RECIPES)
def test_control_and_smoke_of_any_recipe_are_recipes(whole: Recipe) -> None:
    for derived in (whole.plain(), whole.smoke(), whole.plain().smoke()):
        assert decode(encode(derived)) == derived
    assert whole.smoke().train.batch_size <= whole.train.batch_size


@given(st.integers(1, 10**6), st.floats(1e-9, 1e9), TEXT)
def test_overrides_equal_what_could_have_been_written(epochs: int, lr: float, loss: str) -> None:
    quoted = msgspec.toml.encode({"loss": loss}).decode().strip().removeprefix("loss = ")
    found = decode(DISTILLED, overrides=[f"train.epochs={epochs}", f"train.lr={lr!r}", f"distill.0.loss={quoted}"])
    assert (found.train.epochs, found.train.lr, found.distill[0].loss) == (epochs, lr, loss)
