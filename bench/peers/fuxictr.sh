#!/usr/bin/env bash
# Makes the peer's own virtual environment and model zoo under bench/work:
#   bench/peers/fuxictr.sh
# FUXICTR_REPOSITORY may name another copy of the repository (a folder or an address).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${BOWERBIRD_BENCH_WORK:-$here/../work}
venv=$work/fuxictr-venv
zoo=$work/fuxictr-zoo
repository=${FUXICTR_REPOSITORY:-https://github.com/reczoo/FuxiCTR}
commit=0245987

mkdir -p "$work"
if [ ! -x "$venv/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$venv"
fi
# The package needs ray[data] and polars below 2 to read its own data; its models are in the repository alone.
VENV=$venv TORCH=torch==2.13.0 bash "$here/../../scripts/setup.sh" torch
"$venv/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
  fuxictr==2.3.10 'ray[data]==2.60.0' polars==1.44.2
if [ ! -d "$zoo/model_zoo" ]; then
  rm -rf "$zoo"
  git clone --quiet --no-checkout "$repository" "$zoo"
  git -C "$zoo" checkout --quiet "$commit" -- model_zoo
fi
"$venv/bin/python" -c 'import fuxictr; print("FuxiCTR", fuxictr.__version__, "is ready")'
