"""Training runs in processes of their own, for tests that kill them: python train_worker.py FOLDER RUNS-JSON

Torch is imported once, then every run is a fork (512 MB each otherwise).  Prints the exit codes as JSON.
"""
from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch._dynamo  # noqa: F401  the first optimizer imports it: seconds in every fork
from nn_made import Line, settings

from recs.nn.staged import open_staged
from recs.nn.train import TrainingStopped, train


def run(folder: Path, name: str, options: dict) -> None:
    """One run, in `folder/name`; its weights go to `result.pt` there."""
    model = Line(options.pop("dropout", 0.1))
    term_after, loss, steps = options.pop("term_after", None), model.loss, iter(range(10**6))

    def loss_then_term(batch: dict) -> torch.Tensor:    # from inside a step, so that the signal comes at a known place
        if next(steps) == term_after:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(batch)

    model.loss = loss_then_term
    trained = train(model, open_staged(folder / "train"), open_staged(folder / "validation"), settings(**options), folder / name)
    if os.environ.get("RANK", "0") == "0":
        torch.save({"weights": model.state_dict(), "history": trained.history}, folder / name / "result.pt")


def forked(folder: Path, name: str, options: dict, env: dict[str, str]) -> int:
    """The process id of a child that makes this run; what it says goes to `out.txt`."""
    pid = os.fork()
    if pid:
        return pid
    os.environ.update(env)
    (folder / name).mkdir(exist_ok=True)
    out = os.open(folder / name / f"out{env.get('RANK', '')}.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(out, 1)
    os.dup2(out, 2)
    code = 1
    try:
        run(folder, name, options)
        code = 0
    except TrainingStopped as stopped:
        print(stopped)
        code = 143
    finally:
        sys.stdout.flush()
        if code == 1:
            sys.excepthook(*sys.exc_info())
        os._exit(code)


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, codes = Path(sys.argv[1]), {}
    for group in json.loads(sys.argv[2]):       # those of a group run together
        children = {key: forked(place, *what) for key, what in group.items()}
        codes |= {key: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for key, pid in children.items()}
    print(json.dumps(codes))
