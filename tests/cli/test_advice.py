"""The advice of error messages, followed: what failed with the message works with what it advises.

A message with advice that is not known here fails the last test: add a row to a table, a test with `follows`, or, where nothing
can be run, a fragment of it below its reason in `NOT_RUN`.
"""

import ast
import gzip
import re
import shutil
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from command_line import train_once
from PIL import Image

import pyro_hvae as hv
from pyro_hvae.errors import HVAEError
from pyro_hvae.metrics import Posteriors
from pyro_hvae.runs import load_checkpoint, save_checkpoint

RANDOM = np.random.default_rng(0)
ARRAYS = {
    "few": RANDOM.random((40, 5), dtype=np.float32),
    "real": RANDOM.normal(size=(40, 5)),
    "levels": RANDOM.integers(4, size=(40, 5)).astype(np.float32),
    "wide": RANDOM.random((20, 1, 32, 48), dtype=np.float32),
    "odd": RANDOM.random((40, 1, 27, 27), dtype=np.float32),
    "twelve": RANDOM.random((40, 1, 12, 12), dtype=np.float32),
    "sixteen": RANDOM.random((40, 1, 16, 16), dtype=np.float32),
    "colour": RANDOM.random((20, 3, 64, 64), dtype=np.float32),
    "bytes": RANDOM.integers(0, 256, (40, 1, 8, 8), dtype=np.uint8),
    "holes": np.where(RANDOM.random((40, 1, 16, 16)) < 0.1, np.nan, 0.5).astype(np.float32),
}

# `train --dry-run`: a part of the message -> what is typed, and what is typed as it advises
TRAINING = {
    "Use components=32 or fewer": ("vampprior --dataset few.npy", "vampprior --dataset few.npy -o components=32"),
    "Example: -o hidden=128,128": (
        "vampprior --dataset few.npy -o components=8 -o levels=2 -o hidden=",
        "vampprior --dataset few.npy -o components=8 -o levels=2 -o hidden=128,128",
    ),
    "Use -o network=mlp.": ("vae --dataset odd.npy -o network=conv", "vae --dataset odd.npy -o network=mlp"),
    "fewer widths (-o hidden=32,64)": (
        "vae --dataset twelve.npy -o network=conv",
        "vae --dataset twelve.npy -o network=conv -o hidden=32,64",
    ),
    "Use another recipe, such as vae or hvae": ("texture --dataset holes.npy", "hvae --dataset holes.npy"),
    "A folder of images takes size=64": ("texture --dataset wide/", "texture --dataset wide/ -o size=64"),
    "Example: -o hidden=32,64.": (
        "vae --dataset twelve.npy -o network=gated-conv -o hidden=32",
        "vae --dataset twelve.npy -o network=gated-conv -o hidden=32,64",
    ),
    "Example: -o hidden=32,32,256.": (
        "vae --dataset twelve.npy -o network=conv-dense -o hidden=32",
        "vae --dataset twelve.npy -o network=conv-dense -o hidden=32,32,256",
    ),
    "more convolutions to take 16 down to 4. Example: -o hidden=32,32,256": (
        "vae --dataset sixteen.npy -o network=conv-4x4 -o hidden=32,256",
        "vae --dataset sixteen.npy -o network=conv-4x4 -o hidden=32,32,256",
    ),
    "Use -o network=mlp, or other data options": (
        "texture --dataset odd.npy",
        "texture --dataset odd.npy -o network=mlp",
    ),
    "Use -o network=gated-conv": (
        "vae --dataset twelve.npy -o network=conv -o hidden=32,64 -o activation=gated",
        "vae --dataset twelve.npy -o network=gated-conv -o hidden=32,64 -o activation=gated",
    ),
    "a Bernoulli likelihood needs data in [0, 1], but these lie in": (
        "vae --dataset real.npy -o likelihood=bernoulli",
        "vae --dataset real.npy -o likelihood=gaussian",
    ),
    "in 'age' among them. Where 'age' is no part of x: -o labels=age": (
        "vae --dataset ages.csv -o likelihood=poisson",
        "vae --dataset ages.csv -o likelihood=poisson -o labels=age",
    ),
    "or -o condition=age": (
        "vae --dataset ages.csv -o likelihood=negative-binomial",
        "vae --dataset ages.csv -o likelihood=negative-binomial -o condition=age",
    ),
    "or -o size_factor=age. Else use -o likelihood=gaussian": (
        "hvae --dataset ages.csv -o likelihood=negative-binomial",
        "hvae --dataset ages.csv -o likelihood=negative-binomial -o size_factor=age",
    ),
    "The data are standardised: use -o standardize=false": (
        "vae --dataset ages.csv -o labels=age -o likelihood=poisson -o standardize=true",
        "vae --dataset ages.csv -o labels=age -o likelihood=poisson -o standardize=false",
    ),
    "not standardised, or leave size_factor out": (
        "vae --dataset ages.csv -o labels=age -o likelihood=poisson -o standardize=true -o size_factor=total",
        "vae --dataset ages.csv -o labels=age -o likelihood=poisson -o size_factor=total",
    ),
    "'age' is a condition, too. Leave it out of one of the two": (
        "vae --dataset ages.csv -o likelihood=poisson -o condition=age -o size_factor=age",
        "vae --dataset ages.csv -o likelihood=poisson -o size_factor=age",
    ),
    "a Poisson likelihood needs counts (0, 1, 2, ...), but these lie in": (
        "vae --dataset real.npy -o likelihood=poisson",
        "vae --dataset real.npy -o likelihood=gaussian",
    ),
    "Leave it out, or use a likelihood of counts:": (
        "hvae --dataset levels.npy -o likelihood=gaussian -o size_factor=total",
        "hvae --dataset levels.npy -o likelihood=negative-binomial -o size_factor=total",
    ),
    "Use another one, such as warmup or cyclical, or leave balance out": (
        "hvae --dataset few.npy --schedule constant -o balance=true",
        "hvae --dataset few.npy --schedule warmup -o balance=true",
    ),
    "Use another recipe, such as vae or hvae, or -o likelihood=poisson": (
        "vlae --dataset levels.npy -o likelihood=categorical",
        "vlae --dataset levels.npy -o likelihood=poisson",
    ),
    "a Poisson likelihood has no sigma, so learn_sigma cannot be on. Leave learn_sigma out": (
        "vae --dataset levels.npy -o likelihood=poisson -o learn_sigma=true",
        "vae --dataset levels.npy -o likelihood=poisson",
    ),
    "a Bernoulli likelihood has no sigma, so learn_sigma cannot be on. Leave learn_sigma out, or use -o likelihood=gaussian": (
        "vae --dataset few.npy -o likelihood=bernoulli -o learn_sigma=true",
        "vae --dataset few.npy -o likelihood=gaussian -o learn_sigma=true",
    ),
    "has a fixed scale, so learn_sigma cannot be on. Leave learn_sigma out, or use -o likelihood=gaussian": (
        "vae --dataset few.npy -o likelihood=laplace -o learn_sigma=true",
        "vae --dataset few.npy -o likelihood=gaussian -o learn_sigma=true",
    ),
    "so learn_sigma cannot be on. Use -o learn_sigma=false.": (
        "vae --dataset bytes.npy -o likelihood=discretised-logistic -o learn_sigma=true",
        "vae --dataset bytes.npy -o likelihood=discretised-logistic -o learn_sigma=false",
    ),
    "Use posterior=diagonal or posterior=isotropic.": (
        "vampprior --dataset few.npy -o components=8 -o posterior=full",
        "vampprior --dataset few.npy -o components=8 -o posterior=isotropic",
    ),
    "Example: -o dims=20,20,20": ("hvae --dataset few.npy -o dims=", "hvae --dataset few.npy -o dims=20,20,20"),
    "Example: -o widths=512,256.": (
        "lvae --dataset few.npy -o dims=8,8",
        "lvae --dataset few.npy -o dims=8,8 -o widths=512,256",
    ),
    "Example: -o dims=3,3": ("teacher-student --dataset few.npy -o dims=3", "teacher-student --dataset few.npy -o dims=3,3"),
    "Example: -o dims=10,10,10,10": (
        "vlae --dataset colour.npy -o network=vlae-celeba -o dims=2,2",
        "vlae --dataset colour.npy -o network=vlae-celeba -o dims=10,10,10,10",
    ),
    "Use -o join=concat": (
        "vlae --dataset colour.npy -o network=vlae-svhn -o join=add",
        "vlae --dataset colour.npy -o network=vlae-svhn -o join=concat",
    ),
    "divisible by 16, but these data have shape (1, 12, 12). Use fewer layers (-o dims=2,2) or -o network=dense": (
        "vlae --dataset twelve.npy -o network=vlae-svhn -o dims=2,2,2,2,2",
        "vlae --dataset twelve.npy -o network=vlae-svhn -o dims=2,2",
    ),
    "divisible by 32, but these data have shape (1, 12, 12). Use -o network=dense": (
        "pro-vlae --dataset twelve.npy -o network=pro-celeba",
        "pro-vlae --dataset twelve.npy -o network=dense",
    ),
    "too often for images of 12 x 12. Use fewer layers (-o dims=2,2)": (
        "pro-vlae --dataset twelve.npy -o network=pro-shapes -o dims=2,2,2,2",
        "pro-vlae --dataset twelve.npy -o network=pro-shapes -o dims=2,2",
    ),
    "Use a recipe with a ladder (vlae, pro-vlae)": (
        "vae --dataset few.npy --schedule progressive",
        "vlae --dataset few.npy --schedule progressive",
    ),
    "Use --steps 3 or, to learn something, thousands": (
        "pro-vlae --dataset few.npy --steps 2",
        "pro-vlae --dataset few.npy --steps 3",
    ),
    "Use a fraction (-o fade=0.25)": ("pro-vlae --dataset few.npy -o fade=5000", "pro-vlae --dataset few.npy -o fade=0.25"),
    "Use measure=rmse": (
        "vae --dataset few.npy --schedule geco -o learn_sigma=true",
        "vae --dataset few.npy --schedule geco -o learn_sigma=true -o measure=rmse",
    ),
    "Use one particle (particles=1)": (
        "iwae --dataset few.npy --schedule warmup",
        "iwae --dataset few.npy --schedule warmup -o particles=1",
    ),
    "an unweighted bound (the schedule constant with beta=1)": (
        "iwae --dataset few.npy --schedule warmup",
        "iwae --dataset few.npy --schedule constant -o beta=1",
    ),
    "Use 'train vae' with it instead": (
        "beta-vae --dataset few.npy --schedule geco",
        "vae --dataset few.npy --schedule geco",
    ),
    "Use at least one for each": ("texture --dataset triangles --steps 1", "texture --dataset triangles --steps 2"),
    "Use -o patch=63 or less": ("texture --dataset triangles -o patch=99", "texture --dataset triangles -o patch=63"),
    "Use -o patch=64 or less": (
        "texture --dataset triangles -o patch=99 -o overlap=false",
        "texture --dataset triangles -o patch=64 -o overlap=false -o network=mlp",
    ),
    "Use -o patch=3, or -o overlap=false": (
        "texture --dataset triangles -o patch=4",
        "texture --dataset triangles -o patch=4 -o overlap=false",
    ),
    "do not fill images of 64 x 64. Use -o patch=8": (
        "texture --dataset triangles -o patch=7 -o overlap=false",
        "texture --dataset triangles -o patch=8 -o overlap=false",
    ),
    "Example: -o join=average": ("texture --dataset triangles -o join=sum", "texture --dataset triangles -o join=average"),
    "Use -o join=average": (
        "texture --dataset triangles -o overlap=false -o patch=8 -o join=centre",
        "texture --dataset triangles -o overlap=false -o patch=8 -o join=average",
    ),
    "Use -o prior=gmm, or the recipe vampprior": (
        "hvae --dataset few.npy -o prior=vamp",
        "hvae --dataset few.npy -o prior=gmm",
    ),
    "Use --engine fit": (
        "vae --dataset few.npy --engine svi --compile",
        "vae --dataset few.npy --engine fit --compile",
    ),
    "Example: -o side=32": ("vae --dataset sprites -o side=30", "vae --dataset sprites -o side=32"),
    "Example: -o size=10000": ("vae --dataset pendulum -o size=0", "vae --dataset pendulum -o size=10000"),
    "Example: -o validation=0.1 -o test=0.1": (
        "vae --dataset few.npy -o validation=0.9 -o test=0.2",
        "vae --dataset few.npy -o validation=0.1 -o test=0.1",
    ),
    "Example: -o latent=2": ("vae --dataset few.npy -o latent", "vae --dataset few.npy -o latent=2"),
    "is not a whole number. Example: latent=2": ("vae --dataset few.npy -o latent=two", "vae --dataset few.npy -o latent=2"),
    "or name it by the data option key=NAME": ("vae --dataset two.npz", "vae --dataset two.npz -o key=a"),
    "size is an option of a folder of images": ("vae --dataset few.npy -o size=8", "vae --dataset few.npy"),
    "Leave it out: images are grey values in [0, 1]": (
        "vae --dataset twelve.npy -o standardize=true",
        "vae --dataset twelve.npy",
    ),
    "For your own data of that name use a path: --dataset ./wide": ("vae --dataset wide", "vae --dataset ./wide"),
    "Name one: --dataset pendulum": ("vae", "vae --dataset pendulum"),
    "Name one: pyro-hvae train vhp --dataset pendulum": ("", "vhp --dataset pendulum"),
    "which is no name. Write it in quotes": ("vae --config number.toml", "vae --config name.toml"),
    "--epochs and --steps both give the length. Use one of them": (
        "vae --dataset few.npy --epochs 1 --steps 9",
        "vae --dataset few.npy --epochs 1",
    ),
    "and --program both name what to train. Use one of them": (
        "vae --dataset few.npy --program own.py:build",
        "--dataset few.npy --program own.py:build",
    ),
    "--force is for --resume with another --program. Leave it out": (
        "vae --dataset few.npy --force",
        "vae --dataset few.npy",
    ),
    "Use auto, cpu, cuda, cuda:0 or mps": ("vae --dataset few.npy --device gpu", "vae --dataset few.npy --device auto"),
    "is not FILE.py:FUNCTION of an existing file. Example: examples/own_model.py:build": (
        "--dataset few.npy --program own.py",
        "--dataset few.npy --program own.py:build",
    ),
}

# any command on runs: a part of the message -> what is typed, and what is typed as it advises
COMMANDS = {
    "Name the run that it was exported from; in Python": ("train --resume shared", "train --resume vae --steps 9"),
    "is an exported model, not a run. Name the run that it was exported from": (
        "compare shared --metric reconstruction",
        "compare vae --metric reconstruction",
    ),
    "Copy the folder, or name the run that it was exported from": ("export shared again", "export vae again"),
    "or overwrite it (--overwrite on the command line": ("export vae shared", "export vae shared --overwrite"),
    "Name the data that it was trained on, which may have moved": (
        "export vae third --dataset moved.npy",
        "export vae third --dataset few.npy",
    ),
    "Call it x in the file": ("encode vae two.npz --out c.npz", "encode vae named.npz --out c.npz"),
    "Save the one that is meant in a file of its own": (
        "score vae parts.npz --out s.npz --particles 2",
        "score vae few.npy --out s.npz --particles 2",
    ),
    "Choose another folder": ("export vae vae", "export vae elsewhere"),
    "Leave --checkpoint out": ("sample shared --checkpoint best", "sample shared"),
    "Hand over data of that shape": (
        "metrics shared reconstruction --dataset sixteen.npy",
        "metrics shared reconstruction --dataset few.npy",
    ),
    "Name one of them": ("sample runs-", "sample runs-b"),
    "Leave one of them out": ("encode vae few.npy --out c.npz --part test", "encode vae few.npy --out c.npz"),
    "Choose another name for the one that is written": (
        "encode vae two.npz --out two.npz --overwrite",
        "encode vae few.npy --out another.npz",
    ),
    "Name some, such as layers=['z1'], or leave it out for all": (
        "encode vae --out c.npz --layers ,",
        "encode vae --out c.npz --layers z1",
    ),
    "Give a file of pyro-hvae encode, or one with these arrays": (
        "decode vae two.npz --out x.npz",
        "encode vae --out codes.npz",
    ),
    "Put one there: codes": ("encode vae --out .csv", "encode vae --out codes.csv"),
    "Write a .npz file instead": (
        "decode conditional bare.npz --out x.h5ad --given class=3",
        "decode conditional bare.npz --out instead.npz --given class=3",
    ),
    "Remove the column, or decode the file by the run that encoded it": (
        "decode conditional surplus.npz --out x.npz --given class=3",
        "decode conditional bare.npz --out removed.npz --given class=3",
    ),
    "Give a file with a row for each datum": (
        "decode conditional none.npz --out x.npz --given class=3",
        "decode conditional bare.npz --out rows.npz --given class=3",
    ),
    "Add it, or give one value for all: --given": (
        "decode conditional bare.npz --out x.npy",
        "decode conditional bare.npz --out x.npy --given class=3",
    ),
    "Train one: pyro-hvae train vhp --dataset pendulum": (
        "sample last",
        "train vhp --dataset pendulum --dry-run",
    ),
    "Example: --picture figure.png": ("sample vae --picture figure.gif", "sample vae --picture figure.png"),
    "--from and --to go together": ("interpolate vae --from 1", "interpolate vae --from 1 --to 2 --nodes 300"),
    "Move or delete it, or choose another --out": (
        "train vae --dataset few.npy --steps 2 --out wide",
        "train vae --dataset few.npy --steps 2 --out narrow",
    ),
    "Move it away; the same command then starts": (
        "train --resume gone",
        "train vae --dataset few.npy --steps 2 --out moved-away",
    ),
    "Go on with it by --resume vae": ("train vae --dataset few.npy --out vae", "train --resume vae"),
    "is a file, not a directory. Choose another place": (
        "train vae --dataset few.npy --steps 2 --out few.npy",
        "train vae --dataset few.npy --steps 2 --out elsewhere",
    ),
    "Use a smaller one": ("gibbs hvae --thin 60", "gibbs hvae --thin 10"),
    "Train with -o latent=2": (
        "metrics pendulum3 angle",
        "train vae --dataset pendulum -o size=100 -o latent=2 -o hidden=8 --steps 3 --out two",
    ),
    "Example: -o points=50000": (
        "metrics hvae mutual-information -o points=1",
        "metrics hvae mutual-information -o points=50000",
    ),
    "Example: -o draws=4": ("metrics pendulum3 interpolation -o draws=0", "metrics pendulum3 interpolation -o draws=4"),
    "Example: -o clusters=10": (
        "metrics hvae clustering -o clusters=5000",
        "metrics hvae clustering -o clusters=10",
    ),
    "Use 'layers' without --grid": ("layers vae --grid", "layers vae"),
    "or 'traverse', which varies one dimension at a time": ("layers vae --grid", "traverse trained"),
    "only likelihood does. Leave it out": (
        "compare hvae --metric mig --limit 3",
        "compare hvae --metric mig",
    ),
    "Add --particles 5000 to measure it now, or fewer": ("compare vae", "compare vae --particles 20"),
    "Use posterior=diagonal or posterior=isotropic, or a guide of hv.Gaussian": (
        "metrics full mig",
        "train vae --dataset digits -o posterior=diagonal --steps 2 --out diagonal",
    ),
    "or measure it by itself: pyro-hvae evaluate": ("compare other", "evaluate other --particles 20"),
    "is of the recipe vae. Leave the program out": ("sample vae --program own.py:build", "sample vae"),
    "--data-option is of the data that --dataset names. Give both, or neither": (
        "sample vae --data-option data_seed=0",
        "sample vae --data-option data_seed=0 --dataset few.npy",
    ),
    "Leave --dataset out, or use --force": ("sample vae --dataset moved.npy", "sample vae --dataset moved.npy --force"),
    "Hand over it: --program FILE.py:FUNCTION on the command line": ("sample program", "sample program --program own.py:build"),
    "Hand over the program that it was trained with, or use --force": (
        "sample program --program other.py:build",
        "sample program --program own.py:build",
    ),
    "Give it again": ("train --resume program", "train --resume program --program own.py:build"),
    "Start a new run": ("train --resume vae --lr 0.005", "train vae --dataset few.npy --lr 0.005 --steps 2 --out new"),
    "Use --checkpoint best, or train again": ("sample cut", "sample cut --checkpoint best"),
    "Put them back, or say where they are: --dataset": (
        "sample lost",
        "sample lost --dataset few.npy",
    ),
    "Name others: -o factors=a,b": ("metrics pendulum3 regression", "metrics pendulum3 regression -o factors=angle"),
    "Choose one: -o factor=NAME": ("metrics hvae classes -o factor=shape", "metrics hvae classes -o factor=class"),
    "no site to keep. Name some of": ("gibbs hvae --sites , --steps 60", "gibbs hvae --sites all --steps 60"),
    "knows its own conditions (none), so condition= is no option of other data. Leave it out": (
        "sample vae --dataset few.npy --data-option condition=y",
        "sample vae --dataset few.npy",
    ),
    "Leave it out, or name a run that was trained with condition=": (
        "sample hvae --given class=3",
        "sample conditional --given class=3",
    ),
    "--given takes name=value, got 'class'. Example: --given class=3": (
        "sample conditional --given class",
        "sample conditional --given class=3",
    ),
    "has two values of 'class', 3 and 4. Give one": (
        "sample conditional --given class=3,class=4",
        "sample conditional --given class=4",
    ),
    "Say which: --given class=": (
        "interpolate conditional --from 0 --to 1 --nodes 50",
        "interpolate conditional --from 0 --to 1 --nodes 50 --given class=3",
    ),
    "Measure 'smoothness' instead": (
        "metrics angled interpolation",
        "metrics angled smoothness -o graphs=1 -o paths=20 -o nodes=500",
    ),
    "Fill them in, or measure 'reconstruction'": ("metrics holes layer-factors", "metrics holes reconstruction"),
    "Use a batch size of 2 or more": (
        "train lvae --dataset few.npy --batch-size 1 --steps 2 --out norm",
        "train lvae --dataset few.npy --batch-size 2 --steps 2 --out norm2",
    ),
    "Draw them one by one": ("reconstruct vae hvae", "reconstruct hvae"),
    "Use --checkpoint best if that one is finite": ("sample nan", "sample nan --checkpoint best"),
    "Example: --out figure.png": ("data preview digits --out sheet.gif", "data preview digits --out figure.png"),
}

# Fragments of advice that no test here follows, below the reason.
NOT_RUN = {
    "needs a device that is not here": ("Use the device cpu",),
    "torchrun has to start the command: see test_torchrun and test_many_processes": (
        "Use --device cuda",
        "Start as many processes as there are (--nproc-per-node",
        "Start them by torchrun, which sets all of it, or unset WORLD_SIZE",
        "(--nproc-per-node), or use a batch size of",
        "Name its directory: --out DIR",
        "' without torchrun",
        "Use --seed, with a torchrun for each seed",
    ),
    "the files of a data set have to be broken first, and their originals are published": (
        "the original",
        "Replace the file",
        "Remove it to download it again",
        "Get it elsewhere and put it at",
        "Unpack the archive anew",
        "Check that it is the right folder, completely unpacked",
        "Make it smaller, or remove it",
    ),
    "the user's files have to be others: there is nothing to type": (
        "Choose a folder that exists and that you may write to",
        "Give a file of such arrays",
        "Restore its configuration and its data if they were changed, or train anew",
        "Name another folder",
        "Make them different",
        "Use a larger image",
        "Name a folder of images or an .npz",
        "Copy it into one file",
        "Save the table as CSV",
        "Check that it is a file you may read",
        "Check that you may read it",
        "Convert it",
        "Save the data in a file",
        "Remove one of them",
        "Rename or remove one",
        "Move one elsewhere",
        "Export both in one order, or move one elsewhere",
        "Add or rename one",
        "Replace or remove it",
        "Collect more",
        "Use fewer data, or a .npy file",
        "Choose smaller numbers, or a larger part of the data",
        "Add it to the data",
        "Add an array of this name, complete",
        "Add the column; where it is a part of x, its cells may be empty",
        "Use a table like the run's",
        "Save it as numbers",
        "Add it, with NaN where it is not known",
        "Add it, or choose another condition",
        "Use data of the same kind",
        "Leave data of that class out, or train with some of them",
        "Leave them out, or give sizes as a column: size_factor=COLUMN",
        "Leave these rows out, or correct them",
        "Choose a column of positive numbers, or size_factor=total",
    ),
    "the file system has to refuse, or another process to train": (
        "Choose another place with --out",
        "Make room, or send it elsewhere",
        "Wait until it ends, or stop it",
        "Make the directory writable, or go on with a copy of it",
    ),
    "needs the Hugging Face Hub, for which a folder stands in tests/reports/test_hub_upload.py": (
        "Write OWNER/NAME, such as --hub me/",
        "Example: --hub me/digits-vhp",
        "Choose another name, or leave --private out",
    ),
    "needs files that tests do not have": (
        "Train it again, or open it with that version",
        "Use source=images with split=characters, or split=random",
        "Example: -o stride=4",
        "Lower it",
    ),
    "followed in Python, by the tests of the module": (
        "Take at most",
        "Give it in another unit, or less a constant",
        "Example: shape=(1, 8, 8), or leave it out",
        "Hand x over as the script did: hv.encode(pair.guide, x)",
        "Hand some over (hv.fit(..., validation=x)), or leave patience out",
        "Hand it over: hv.fit(..., optimizer=lambda parameters: ...)",
        "Example: optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-3)",
        "Use AdamW or SGD",
        "Give it all that the function is called with, or freeze the others by requires_grad_(False)",
        "Choose another --out",
        "Example: --seeds 0:5 is 0, 1, 2, 3, 4",
        "Read some of them: loss(rows[:64])",
        "Give values (N, *event) of a layer or more",
        "Example: Codes({'z1': means})",
        "Give arrays of the same data",
        "Give as many",
        "Leave these out",
        "Give finite numbers, and NaN where a value is missing",
        "Give an array: frame.to_numpy()",
        "Hand its values over: given={'",
        "Give a finite number for each row",
        "Make it a tensor of real numbers, and train again",
        "Choose these, in this order: --data-option columns=",
        "Leave data of size 0 out, or give them another size",
        "Let it give a finite number for each datum",
        "Example: measure=lambda x, fn: (x - fn.mean).square().flatten(1).mean(1)",
        "Use a likelihood with a mean, such as hv.Gaussian, or a schedule without a constraint, such as warmup",
        "Give numbers of shape (n,) as values[:, None]",
        "Use hv.posteriors for Gaussian ones",
        "Make it a tensor: torch.as_tensor(values)",
        "Give one for each",
        "Example: 2 or (1, 16, 16)",
        "Leave shorter paths out",
        "Make it an nn.Parameter of the model or the guide",
        "Give the student the teacher's sites",
        "Use one",
        "Train both on the same data",
        "Give every pair a name of its own (hv.for_svi(..., name=...))",
        "Use samples instead",
        "Use zuko.flows.NSF or MAF",
        "Use a flow with an exact inverse, zuko.flows.NSF or MAF",
        "Give it that of the Flow",
        "Give it parents, or only the flow",
        "Use event=",
        "Give at least one",
        "Use torch.tensor(...)",
        "Use gradient=False for a module that is only evaluated",
        "Leave out one of the two",
        "Use numbers, texts and lists",
        "Example: -o seed=1",
        "Go on there: hv.fit(..., out=",
        "Hand data over: --dataset NAME|PATH on the command line",
        "in a pass of an objective, given={",
        "Leave it out, or build the program with given=",
        "Give numbers as y.float().reshape(len(y), -1)",
        "Give it beside x, loss(x, observed=mask), or take another number of particles",
        "Use a likelihood with independent entries, such as hv.Gaussian, or fill the entries in",
        "Add it to a program, def forward(self, x=None, size=1,",
        "Give one row, or one for each",
        "Give one row for each datum",
        "Leave these rows out, or give it a value in each",
        "Say which: under={'",
        "Say which: site='",
        "Use -o posterior=diagonal, or -o prior=gmm",
        "Take 1000",
        "Use a name such as y",
        "Give one boolean for each entry of x, true where it is known",
        "Give booleans, true where an entry is known",
        "Use another recipe, or fill the entries in",
        "Start chains by init=prior",
        "Use 'reparameterised'",
        "Read some of them: loss(rows[:64])",
        "Give values (N, *event) of a layer or more",
        "Example: Codes({'z1': means})",
        "Give arrays of the same data",
        "Give as many",
        "Leave these out",
        "Use hv.ELBO as the loss of SVI",
        "Make it a tensor: torch.as_tensor(values)",
    ),
    "needs a run of stages or of patches, which takes long to train": (
        "Leave the steps out to go on as planned",
        "Go on with it: pyro-hvae train --resume",
        "Example: -o images=200",
        "Use 'sample' for samples",
        "Use a smaller -o patch",
        "Evaluate its reconstructions instead of its likelihood",
    ),
    "followed by test_folders": ("to a folder, or HOME",),
    "followed by test_exported_files": ("Give one, such as shared/model",),
    "followed by test_gibbs_command": ("Add z2: sites z1,z2, or all",),
    "followed by tests/data": (
        "Give booleans (x == 1) where 1 is white, or floats (x / 255) where it is a grey value",
        "Give it another one, in Python: h5py.File(",
        "Choose columns of numbers or texts",
        "Choose another condition",
        "Choose a factor:",
        "Name fewer conditions",
        "Change its name",
        "Choose another name, or overwrite it (--overwrite",
        "Give values of that shape",
        "Give finite ones",
        "Name them by columns=",
    ),
    "helps by training or by chance, not for certain": (
        "Draw more nodes",
        "Train longer, or with a smaller weight of the rate",
        "Evaluate another checkpoint (best), or train with a smaller learning rate",
        "Measure another checkpoint (--checkpoint best), or train with a smaller --lr",
        "Example: -o train=5000",
    ),
    "a file of a run has to be replaced by one that is whole": (
        "Train first, or name another run",
        "Train again",
        "Use a file that pyro-hvae wrote, or train again",
        "Put that back (in the run's config.toml), or start a new run",
        "Name another or train one",
        "Move it away",
    ),
}

FOLLOWED: set[str] = {*TRAINING, *COMMANDS}  # and OWN_DATA, below


def follows(*fragments):
    """Marks a test that follows the advice of messages with these fragments."""
    FOLLOWED.update(fragments)
    return lambda test: test


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, a program and runs."""
    folder = tmp_path_factory.mktemp("advice")
    for name, values in ARRAYS.items():
        np.save(folder / f"{name}.npy", values)
    np.save(folder / "moved.npy", ARRAYS["few"][::-1])
    np.savez(folder / "two.npz", a=ARRAYS["few"], b=ARRAYS["real"])
    np.savez(folder / "named.npz", x=ARRAYS["few"], b=ARRAYS["real"])
    np.savez(folder / "parts.npz", x_train=ARRAYS["few"], x_test=ARRAYS["few"])
    np.savez(folder / "bare.npz", z1=np.zeros((2, 3)), z2=np.zeros((2, 2)))
    np.savez(folder / "surplus.npz", z1=np.zeros((2, 3)), z2=np.zeros((2, 2)), z1_3=np.zeros(2))
    np.savez(folder / "none.npz", z1=np.zeros((0, 3)), z2=np.zeros((0, 2)))
    save_pictures(folder / "wide", 80, 64)
    ages = [f"{1 + i % 5},{i * i % 7},{20.5 + i}" for i in range(40)]
    (folder / "ages.csv").write_text("\n".join(["g1,g2,age", *ages]))
    (folder / "number.toml").write_text("dataset = 3")
    (folder / "name.toml").write_text('dataset = "digits"')
    (folder / "own.py").write_text(
        "import pyro_hvae as hv\n\ndef build(x):\n    p = hv.Gaussian(2, x.shape[1:], scale=1.0)\n"
        "    return hv.Chain(hv.StandardNormal(2), [], p), hv.BottomUp([hv.Gaussian(x.shape[1:], 2)])\n"
    )
    few = "--dataset few.npy -o hidden=8 --batch-size 8 -o eval_every=4 --steps".split()
    train_once(folder, "vae", *few, 8, "--out", "vae")
    train_once(folder, "vae", *few, 300, "-o", "sigma=0.05", "--out", "trained")
    train_once(folder, "hvae", *"--dataset digits -o hidden=8 -o upper=8 -o dims=3,2 --steps 8 --out hvae".split())
    train_once(folder, *"vae --dataset digits -o hidden=8 -o posterior=full --steps 8 --out full".split())
    small = "--dataset pendulum -o size=100 -o latent=3 -o hidden=8 -o starts=1 --steps 8 --out pendulum3"
    train_once(folder, "vae", *small.split())
    train_once(folder, "vae", *small.replace("latent=3", "latent=2 -o condition=angle").split()[:-1], "angled")
    train_once(folder, *"hvae --dataset digits -o condition=class -o dims=3,2 --steps 8 --out conditional".split())
    hv.export(folder / "vae", folder / "shared")
    np.save(folder / "holes.npy", np.where(RANDOM.random((40, 1, 6, 6)) < 0.2, np.nan, 0.5))
    train_once(folder, *"vae --dataset holes.npy -o hidden=8 --steps 8 --out holes".split())
    train_once(folder, *"--program own.py:build --dataset few.npy --steps 8 --out program".split())
    return folder


def save_pictures(folder, width, height):
    folder.mkdir()
    for number in range(12):
        pixels = RANDOM.integers(0, 256, (height, width), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize("advice", TRAINING)
def test_advice_on_training_helps(command, here, advice):
    wrong, right = TRAINING[advice]
    code, _, err = command("train", *wrong.split(), "--dry-run")
    assert code in (2, 3) and advice in err, err
    code, _, err = command("train", *right.split(), "--dry-run")
    assert code == 0, err


@follows("square images (channels, height, width), but these data have shape")
def test_texture_on_arrays_is_not_sent_to_an_option_that_arrays_lack(command, here, tmp_path):
    code, _, err = command("train", "texture", "--dataset", "wide.npy", "--dry-run")
    assert code == 2 and "crop or pad arrays to squares before they are saved" in err
    np.save(tmp_path / "square.npy", ARRAYS["wide"][..., :32])
    code, _, err = command("train", "texture", "--dataset", tmp_path / "square.npy", "--dry-run")
    assert code == 0, err


@pytest.fixture
def changed(place, tmp_path, monkeypatch):
    """A copy of the folder, in which `runs` has two runs, one checkpoint is cut, and the data of a run are gone."""
    folder = shutil.copytree(place, tmp_path / "changed")
    monkeypatch.chdir(folder)
    for name in ("a", "b"):
        shutil.copytree("vae", f"runs/runs-{name}")
    shutil.copytree("vae", "cut")
    with open("cut/checkpoints/last.pt", "r+b") as file:
        file.truncate(1000)
    shutil.copytree("vae", "other")
    shutil.copytree("vae", "gone")
    shutil.rmtree("gone/checkpoints")
    shutil.copytree("vae", "nan")
    content = load_checkpoint(Path("nan/checkpoints/last.pt"))
    for value in content["programs"][0]["model"].values():
        value.fill_(torch.nan)
    save_checkpoint(Path("nan/checkpoints/last.pt"), content)
    Path("other.py").write_text(Path("own.py").read_text().replace("2, x.shape[1:], s", "2, x.shape[1:], (4,), s"))
    shutil.copytree("vae", "lost")
    config = Path("lost/config.toml")
    config.write_text(config.read_text().replace("few.npy", "gone.npy"))
    return folder


def test_advice_in_python_is_typed_as_in_python(changed):
    with pytest.raises(HVAEError, match=r"Use checkpoint='best', or train again"):
        hv.load("cut")
    hv.load("cut", checkpoint="best")
    with pytest.raises(HVAEError, match=r"Leave checkpoint out\."):
        hv.load("shared", checkpoint="best")
    model = hv.HVAE("vae", likelihood="bernoulli", hidden=8, steps=2, device="cpu")
    with pytest.raises(HVAEError, match=r"Use likelihood=gaussian\."):
        model.fit(ARRAYS["real"])
    model.set_params(likelihood="gaussian").fit(ARRAYS["real"])


def zip_pictures(path):
    shutil.make_archive(str(path.with_suffix("")), "zip", "wide")


def save_object_array(path):
    np.save(path, np.array([np.zeros(3), np.ones(3), None], dtype=object), allow_pickle=True)


def save_texts(path):
    with pytest.importorskip("h5py").File(path, "w") as file:
        file["x"] = [["1.5", "2"]] * 4


def write(text):
    return lambda path: path.write_text(text)


def save(values):
    return lambda path: np.save(path, values)


def save_arrays(**arrays):
    return lambda path: np.savez(path, **arrays)


def save_annotated(x=True, kind=float, names=("a", "b"), link=None):
    """Makes an AnnData file with a layer "raw", whose X may be missing or of another kind, and a member a link."""

    def make(path):
        anndata, h5py = pytest.importorskip("anndata"), pytest.importorskip("h5py")
        held = anndata.AnnData(RANDOM.normal(size=(9, 2)) if x else None, shape=None if x else (9, 2))
        held.layers["raw"] = RANDOM.normal(size=(9, 2))
        held.var_names = list(names)
        held.write_h5ad(path)
        with h5py.File(path, "r+") as file:
            if kind is not float:
                attributes = dict(file["X"].attrs)
                del file["X"]
                file["X"] = np.ones((9, 2), dtype=kind)
                file["X"].attrs.update(attributes)
            if link:
                file.move(link, "elsewhere")
                file[link] = h5py.SoftLink("/elsewhere")

    return make


def write_motion(moving):
    """Makes a BVH file of two joints, of which the first or the second moves."""
    joints = "ROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\nJOINT Head\n{\nOFFSET 0 1 0\nCHANNELS 1 Xrotation\n}\n}\n"
    frames = "".join(f"{i + 1 if moving == 0 else 1} {i + 1 if moving == 1 else 1}\n" for i in range(20))
    return write(f"HIERARCHY\n{joints}MOTION\nFrames: 20\nFrame Time: 0.1\n{frames}")


GREY = RANDOM.integers(0, 256, (12, 8, 8))
TABLE = "a,b\n1,2\n2,1\n3,5\n4,4\n"

# `data info`: a part of the message -> how the path is made, and how it is made as the message advises
OWN_DATA = {
    "Divide by 255": ("x.npy", save(GREY.astype(np.float32)), "x.npy", save(GREY.astype(np.float32) / 255)),
    "or save as uint8": ("x.npy", save(GREY.astype(np.float32)), "x.npy", save(GREY.astype(np.uint8))),
    "or save data that are not images as vectors (n, d)": (
        "x.npy",
        save(GREY - 500),
        "x.npy",
        save(GREY.reshape(12, 64) - 500),
    ),
    "Scale them": ("x.npy", save(np.float32(GREY) - 9), "x.npy", save((np.float32(GREY) - 9 + 9) / 255)),
    "Reshape it": ("x.npy", save(np.arange(30.0)), "x.npy", save(np.arange(30.0).reshape(10, 3))),
    "numpy.save(path, numpy.stack(x))": (
        "x.npy",
        save_object_array,
        "x.npy",
        save(np.stack([np.zeros(3), np.ones(3), np.ones(3)])),
    ),
    "Save it as uint8 or float32": ("x.h5", save_texts, "x.npy", save(np.full((4, 2), 1.5, np.float32))),
    "data are real numbers. Save it as a plain array of uint8 or float32": (
        "x.npy",
        save(np.ones((4, 2)) * 1j),
        "x.npy",
        save(np.ones((4, 2), np.float32)),
    ),
    "is empty: its shape is (0, 3). Save at least three data": ("x.npy", save(np.ones((0, 3))), "x.npy", save(np.ones((3, 3)))),
    "Scale the data, for example by a larger unit": (
        "x.npy",
        save(np.full((4, 2), 1e300)),
        "x.npy",
        save(np.full((4, 2), 1.0)),
    ),
    "Replace values that are not finite, by NaN where they are missing": (
        "x.npy",
        save(np.array([[np.inf, 1.0], *[[1.0, 2.0]] * 9])),
        "x.npy",
        save(np.array([[np.nan, 1.0], *[[1.0, 2.0]] * 9])),
    ),
    "of x in column 1, so nothing can be learned about it. Leave it out": (
        "x.npy",
        save(ARRAYS["real"] * [1, np.nan, 1, 1, 1]),
        "x.npy",
        save(np.delete(ARRAYS["real"], 1, 1)),
    ),
    "every entry is missing. Leave it out": ("x.npy", save(np.full((4, 2), np.nan)), "x.npy", save(np.full((4, 2), 1.0))),
    "Give it one boolean for each entry of the data, true where it is known": (
        "x.npz",
        save_arrays(x=ARRAYS["real"], mask=np.ones(40, bool)),
        "x.npz",
        save_arrays(x=ARRAYS["real"], mask=np.ones((40, 5), bool)),
    ),
    "or rename it if it is no mask of missing entries": (
        "x.npz",
        save_arrays(x=ARRAYS["real"], mask=np.ones(40, bool)),
        "x.npz",
        save_arrays(x=ARRAYS["real"], left=np.ones(40, bool)),
    ),
    "leave the cell empty if its value is missing": (
        "x.csv",
        write(TABLE + "5,off\n"),
        "x.csv",
        write(TABLE + "5,\n"),
    ),
    "Unpack it: gunzip 'x.npy.gz'": ("x.npy.gz", lambda path: gzip.open(path, "wb").close(), "x.npy", save(ARRAYS["few"])),
    "Unpack it and name the folder": ("x.zip", zip_pictures, "wide/", lambda path: None),
    "save the array with numpy.save": ("x.pt", write(""), "x.npy", save(ARRAYS["few"])),
    "Name the folder that contains the images": ("wide/0.png", lambda path: None, "wide/", lambda path: None),
    "Save it as .csv, with a line of names": ("x.dat", write(""), "x.csv", write(TABLE)),
    "save other arrays with numpy.save": ("x.own", write(""), "x.npy", save(ARRAYS["few"])),
    "pen and save it by anndata": ("x.h5ad", save_annotated(link="obs"), "x.h5ad", save_annotated()),
    "Choose a layer by layer=, of": ("x.h5ad", save_annotated(x=False), "x.h5ad -o layer=raw", save_annotated(x=False)),
    "Choose another by layer=": ("x.h5ad", save_annotated(kind=complex), "x.h5ad -o layer=raw", save_annotated(kind=complex)),
    "Make the names unique by anndata": (
        "x.h5ad -o columns=a",
        save_annotated(names=("a", "a")),
        "x.h5ad -o columns=a",
        save_annotated(names=("a", "a-1")),
    ),
    "Name other motions, or channels of the root by columns=": (
        "x.bvh",
        write_motion(moving=0),
        "x.bvh -o columns=Hips.rx",
        write_motion(moving=0),
    ),
    "Put the .asf file that it was recorded with into its folder": (
        "x.amc",
        write(""),
        "x.bvh",
        write_motion(moving=1),  # the skeleton is inside; .amc files with theirs are read in test_own_motions
    ),
    "Rename one": ("x.csv", write(TABLE.replace("b", "a")), "x.csv", write(TABLE)),
    "Add the data": ("x.csv", write("a,b\n"), "x.csv", write(TABLE)),
    "Give each row as many": ("x.csv", write(TABLE + "1,2,3\n"), "x.csv", write(TABLE + "1,2\n")),
    "Check the path, or put the data back": ("x.csv", lambda path: None, "x.csv", write(TABLE)),
    "Choose columns of numbers, or name it in labels": (
        "x.csv -o columns=b",
        write("a,b\n1,u\n2,v\n3,w\n"),
        "x.csv -o columns=a -o labels=b",
        write("a,b\n1,u\n2,u\n3,w\n"),
    ),
    "Or choose other columns by columns=": (
        "x.csv",
        write(TABLE + "5,1e300\n"),
        "x.csv -o columns=a",
        write(TABLE + "5,1e300\n"),
    ),
    "Give columns of numbers": ("x.csv", write("a,b\nu,v\nu,v\nu,w\n"), "x.csv", write("a,b\n1,v\n2,v\n5,w\n")),
}


@pytest.mark.parametrize("advice", OWN_DATA)
def test_advice_on_own_data_helps(command, here, monkeypatch, advice):
    wrong, make_wrong, right, make_right = OWN_DATA[advice]
    for text, make, expected in ((wrong, make_wrong, 3), (right, make_right, 0)):
        for path in (*here.glob("x.*"),):
            path.unlink()
        make(here / text.split()[0])
        code, _, err = command("data", "info", *[f"./{text}".split()[0], *text.split()[1:]])
        assert code == expected or (expected == 3 and code == 2), err
        assert expected == 0 or advice in err, err


@follows("Give floats where they are no grey values", "Give floats in both cases")
def test_advice_on_whole_numbers_helps():
    pair = hv.Chain(hv.StandardNormal(2), [], hv.Gaussian(2, (4, 4), scale=1.0)), hv.BottomUp([hv.Gaussian((4, 4), 2)])
    whole = torch.randint(-9, 600, (8, 4, 4))
    with pytest.raises(HVAEError, match=r"x.float\(\) of a tensor"):
        hv.ELBO()(*pair)(whole)
    assert hv.ELBO()(*pair)(whole.float()).isfinite()


@follows("Use measure=nats")
def test_advice_on_the_constraint_of_classes_helps():
    pair = hv.Chain(hv.StandardNormal(2), [], hv.Categorical(2, 3, levels=4)), hv.BottomUp([hv.Gaussian(3, 2)])
    estimate = hv.ELBO().estimate(*pair, torch.zeros(8, 3))
    with pytest.raises(HVAEError, match="Use measure=nats"):
        estimate.constraint("rmse")
    assert estimate.constraint("nats") > 0


@follows("Use particles=2 or more")
def test_advice_on_shared_sites_helps():
    with pytest.raises(HVAEError, match="Use particles=2 or more"):
        hv.ELBO(shared=("z1",))
    hv.ELBO(shared=("z1",), particles=2)


@follows("pass scales, not log-variances")
def test_advice_on_scales_helps():
    with pytest.raises(HVAEError, match="pass scales"):
        Posteriors(torch.zeros(4, 2), torch.full((4, 2), -1.0))
    Posteriors(torch.zeros(4, 2), torch.full((4, 2), -1.0).exp())


@follows("Call what it observes 'x'")
def test_advice_on_the_observed_site_helps():
    with pytest.raises(HVAEError, match="Call what it observes 'x'"):
        hv.generate(model_of("y"), 3)
    assert hv.generate(model_of("x"), 3)["x"].shape == (3, 2)


def model_of(name):
    def model(x=None, size=1):
        with pyro.plate("data", size if x is None else len(x)):
            return pyro.sample(name, dist.Normal(torch.zeros(2), 1.0).to_event(1), obs=x)

    return model


@follows("Make room or the folder writable")
def test_advice_on_a_run_that_cannot_be_written_helps(command, changed):
    (changed / "vae/.metrics.jsonl.part").mkdir()
    code, _, err = command("train", "--resume", "vae", "--steps", "9")
    assert code == 3 and "cannot write 'vae/metrics.jsonl'" in err and "give the command again with --resume" in err, err
    (changed / "vae/.metrics.jsonl.part").rmdir()
    code, _, err = command("train", "--resume", "vae", "--steps", "9")
    assert code == 0, err


@follows("Make it a tensor or a plain number")
def test_advice_on_checkpoints_helps(tmp_path):
    with pytest.raises(HVAEError, match="Make it a tensor"):
        save_checkpoint(tmp_path / "a.pt", {"x": np.ones(3)})
    save_checkpoint(tmp_path / "a.pt", {"x": torch.ones(3)})
    load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("advice", COMMANDS)
def test_advice_on_runs_helps(command, changed, advice):
    if advice.startswith("Train one"):
        shutil.rmtree("runs")
    wrong, right = COMMANDS[advice]
    code, _, err = command(*wrong.split())
    assert code in (2, 3, 4) and advice in err, err
    code, _, err = command(*right.split())
    assert code == 0, err


VERBS = (
    "Add Ask Bring Call Change Check Choose Close Collect Convert Copy Delete Divide Draw Evaluate Example Fetch Get Give Go "
)
VERBS += (
    "Hand Install Leave Lower Make Measure Move Name Observe Open Pass Put Raise Read Reduce Remove Rename Replace Reshape "
)
VERBS += "Restore Run Sample Save Say Scale Set Start Stop Take Train Try Unpack Use Wait Write"
ADVISES = re.compile(rf"(?:^|[.:;?)] )(?:{VERBS.replace(' ', '|')})\b.*", re.DOTALL)
PACKAGE = Path(hv.__file__).parent


def list_advice():
    """Place -> the literal parts of the advice in the error that is raised there."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
                continue
            for text in ast.walk(node.exc):
                parts = text.values if isinstance(text, ast.JoinedStr) else [text]
                words = "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in parts)
                if isinstance(text, ast.JoinedStr | ast.Constant) and (found := ADVISES.search(words)):
                    yield f"{path.relative_to(PACKAGE)}:{node.lineno}", [part.strip(" .") for part in found[0].split("\0")]
                    break


PATHS = {  # a part of the message of hv.paths -> what is wrong in a call, and what is right
    "Example: points=50": ({"points": 2}, {"points": 50}),
    "Give two or more": ({"data": torch.zeros(1, 2), "pairs": [[0, 0]]}, {"data": torch.rand(2, 2), "k": 1}),
    "Leave these data out, or look at encode": ({"data": torch.full((20, 2), torch.nan)}, {"data": torch.rand(20, 2)}),
    "Give more data, or more neighbours: most=": (
        {"data": torch.cat([torch.rand(6, 2), 9 + torch.rand(6, 2)]), "pairs": [[0, 11]], "k": 2, "most": 4},
        {"data": torch.cat([torch.rand(6, 2), 9 + torch.rand(6, 2)]), "pairs": [[0, 11]], "k": 2, "most": 8},
    ),
    "Give indices of data, two for each path. Example: pairs=[[0, 1], [0, 2]]": ({"pairs": []}, {"pairs": [[0, 1], [0, 2]]}),
    "Leave that out, or use geodesics=False": (
        {"decode": lambda z: z.detach()},
        {"decode": lambda z: z.detach(), "geodesics": False},
    ),
}


@follows(*PATHS)
@pytest.mark.parametrize("advice", PATHS)
def test_advice_on_paths_helps(advice):
    wrong, right = PATHS[advice]
    call = {"encode": None, "decode": lambda z: z**2, "data": torch.rand(20, 2), "pairs": [[0, 1]]}
    with pytest.raises(HVAEError) as caught:
        hv.paths(**call | wrong)
    assert advice in str(caught.value)
    assert hv.paths(**call | right)


def test_every_advice_is_known():
    known = "\n".join([*FOLLOWED, *OWN_DATA, *(fragment for fragments in NOT_RUN.values() for fragment in fragments)])
    fragments = known.split("\n")
    unknown = []
    for place, parts in list_advice():
        parts = [part for part in parts if len(part) > 7]  # what is left may be filled in by others, as "Use ..." is
        if parts and not any(part in known or any(f in part for f in fragments) for part in parts):
            unknown.append(f"{place}: {parts}")
    assert not unknown, "\n".join(unknown)
