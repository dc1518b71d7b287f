#!/usr/bin/env bash
# Makes the serving peers' own virtual environment under bench/work: LitServe, BentoML and Ray Serve with ONNX Runtime.
#   bench/peers/serving.sh
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${BOWERBIRD_BENCH_WORK:-$here/../work}
venv=$work/serving-venv

mkdir -p "$work"
if [ ! -x "$venv/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
  litserve==0.2.19 bentoml==1.4.40 'ray[serve]==2.60.0' onnxruntime==1.32.0 uvloop httptools
"$venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

print("ready:", ", ".join(f"{name} {version(name)}" for name in ("litserve", "bentoml", "ray", "onnxruntime")))
PYTHON
