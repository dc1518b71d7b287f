"""Run as a process that knows a bundle and a log alone: prints the scores of one request as JSON."""

import json
import sys
from pathlib import Path

from bowerbird.bundles.bundle import read_bundle
from bowerbird.declare.workspace import load_workspace
from bowerbird.log.reader import LogReader
from bowerbird.plan.encode import Encoder
from bowerbird.plan.engine import build_engine
from bowerbird.samples.replay import advance


def score(bundle_folder: str, workspace_folder: str, request: dict) -> dict:
    bundle = read_bundle(bundle_folder)
    encoder, engine = Encoder(bundle.plan), build_engine(bundle.plan)
    advance(LogReader(load_workspace(workspace_folder)), encoder, engine)
    slots = encoder.encode_request(request["user"], request["context"])
    block = engine.read(request["time"], slots, encoder.encode_items(request["items"]))
    scores = bundle.load_scorer().score(block)["click"].tolist()
    return {"scores": scores, "bargain": block.numbers["bargain"].tolist(), "file": __file__}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print(json.dumps(score(str(folder), sys.argv[2], json.loads(sys.argv[3]))))
