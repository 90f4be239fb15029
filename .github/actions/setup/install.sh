#!/usr/bin/env bash
# Makes .venv with one of three sets of dependencies: install.sh PYTHON locked|minimal|newest. Needs uv on PATH.
set -euo pipefail
python_version=$1 dependencies=$2
extras=cloud,dev,docs,export,geo,joblib,postgres,serve,slurm # those of requirements.lock
case "$OSTYPE" in msys* | cygwin*) scripts=Scripts ;; *) scripts=bin ;; esac
folder=${RUNNER_TEMP:-$(mktemp -d)}

uv venv --quiet --clear --python "$python_version" .venv
case "$dependencies" in
locked)
    # On Linux the lock means PyTorch with CUDA, 6 GB of a runner's 14. The same release for CPUs comes from PyTorch's
    # own index, whose files have other hashes than the lock knows; everything else is checked against its hash.
    python .github/actions/setup/split_lock.py requirements.lock "$OSTYPE" "$folder"
    uv pip install --no-deps --require-hashes -r "$folder/hashed.txt"
    if [ -s "$folder/torch.txt" ]; then
        uv pip install --no-deps --torch-backend cpu -r "$folder/torch.txt"
    fi
    uv pip install --no-deps --no-build-isolation --editable .
    ;;
minimal) uv pip install --torch-backend cpu --resolution lowest-direct --editable ".[$extras]" ;;
newest) uv pip install --torch-backend cpu --upgrade --editable ".[$extras]" ;;
*)
    echo "error: '$dependencies' is none of locked, minimal, newest" >&2
    exit 2
    ;;
esac
echo "$PWD/.venv/$scripts" >>"${GITHUB_PATH:-/dev/null}"
