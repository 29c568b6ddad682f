"""Loads the best model of `hotlanes train mlp` into torch.nn.Sequential; compares predictions with `hotlanes predict`.

From the repository's root, with torch, numpy and safetensors installed, and the program's path:

    python train/tests/golden/mlp_model.py target/release/hotlanes

It trains small models on rows of its own, one for each kind of loss, activation and dropout, and ends with an error
where a prediction differs by more than rounding. The functions `load` and `predict` are all that a user of such a
model needs.
"""

import csv
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

ACTIVATIONS = dict(silu=nn.SiLU, relu=nn.ReLU, gelu=nn.GELU, tanh=nn.Tanh)


def load(run):
    """The model and what the index says of it."""
    run = pathlib.Path(run)
    index = json.loads((run / "best.json").read_text())
    about = index["about"]["model"]
    tensors = load_file(run / f"best-{index['saved'][0]['step']:012}.safetensors")
    layers = []
    for name in sorted((n for n in tensors if n.endswith(".weight")), key=lambda n: int(n.split(".")[0])):
        outputs, inputs = tensors[name].shape
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[about["activation"]]()]
        if about["dropout"]:
            layers.append(nn.Dropout())
    model = nn.Sequential(*layers[: -2 if about["dropout"] else -1])
    model.load_state_dict(tensors)
    return model.eval(), about


def features(about, row):
    """A row, a dict of text by column, as the model takes it."""
    values = []
    for column in about["schema"]["columns"]:
        cell, kind = row[column["name"]], column["kind"]
        values += [float(cell)] if kind == "number" else [float(cell == name) for name in kind["categories"]]
    scales = about["standardizer"]
    return [0.0 if s["is_constant"] else (x - s["mean"]) / s["scale"] for x, s in zip(values, scales)]


def predict(model, about, rows):
    """Numbers in the target's units, or the probability of each class."""
    with torch.no_grad():
        y = model(torch.tensor([features(about, row) for row in rows], dtype=torch.float32)).double()
    if about["target"]:
        return about["target"]["mean"] + about["target"]["scale"] * y.numpy()
    if about["loss"] == "bce":
        p = torch.sigmoid(y)
        return torch.cat([1 - p, p], 1).numpy()
    return torch.softmax(y, 1).numpy()


def main(program):
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rows = folder / "rows.csv"
        with rows.open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["a", "b, c", "constant", "colour", "y", "two", "five"])
            for _ in range(400):
                a, b, colour = rng.normal(), 1000 + 50 * rng.normal(), rng.choice(["red", "gr\u00fcn", "x, y"])
                y = 7 + 30 * a + b / 10 + 20 * (colour == "red")
                five = "ABCDE"[min(4, max(0, int(y // 25) - 2))]
                out.writerow([a, b, 7, colour, y, ["no", "yes"][int(y > 110)], five])
        used = ["--features", "a", "b, c", "constant", "--one-hot", "colour"]
        classes = ["--task", "classification"]
        for i, options in enumerate([
            ["--target", "y"],
            ["--target", "y", "--loss", "l1", "--activation", "relu", "--dropout", "0.1"],
            ["--target", "y", "--loss", "huber", "--hidden", "9", "--activation", "tanh"],
            ["--target", "two", *classes, "--activation", "gelu"],
            ["--target", "two", *classes, "--loss", "cross-entropy", "--hidden", "5"],
            ["--target", "five", *classes, "--dropout", "0.2"],
        ]):
            run = folder / f"run{i}"
            subprocess.run([program, "train", "mlp", "--data", rows, *used, *options, "--epochs", "20", "--batch", "32",
                            "--quiet", "--out", run], check=True)
            model, about = load(run)
            show = [] if about["target"] else ["--probabilities"]
            predictions = folder / "predictions.csv"
            subprocess.run([program, "predict", "--model", run, rows, *show, "--out", predictions], check=True)
            ours = list(csv.reader(predictions.read_text().splitlines()))[1:]
            ours = np.array([[float(cell) for cell in (row if about["target"] else row[1:])] for row in ours])
            with rows.open(newline="") as file:
                theirs = predict(model, about, list(csv.DictReader(file)))
            scale = about["target"]["scale"] if about["target"] else 1.0
            apart = np.abs(ours - theirs).max() / scale
            print(f"{' '.join(options)}: {len(ours)} predictions, at most {apart:.1e} apart")
            assert ours.shape == theirs.shape and apart < 1e-5, options


if __name__ == "__main__":
    main(*sys.argv[1:])
