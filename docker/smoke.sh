#!/usr/bin/env bash
# What both images are tried by before they are pushed: one epoch on the embedded dataset, its export, and the service's
# answer to one image.  docker/smoke.sh TRAIN_IMAGE SERVE_IMAGE
set -euo pipefail
train=$1 serve=$2 name=landuse-smoke-$$

stop() {
    docker rm --force "$name" >/dev/null 2>&1 || true
    docker volume rm --force "$name" >/dev/null
}
trap stop EXIT
docker volume create "$name" >/dev/null
docker run --rm --user 0 --volume "$name:/outputs" --entrypoint chown "$train" 10001:0 /outputs

landuse() { docker run --rm --read-only --tmpfs /tmp --tmpfs /work/data:mode=1777 --volume "$name:/work/outputs" "$train" "$@"; }
landuse trainer.epochs=1 trainer.warmup_epochs=0 hydra.run.dir=outputs/smoke
landuse export run=outputs/smoke export.variants=[int8] export.measure=false

docker run --detach --name "$name" --read-only --tmpfs /tmp --env PORT=8080 --volume "$name:/outputs:ro" \
    "$serve" serve run=/outputs/smoke/export/int8 >/dev/null
for _ in $(seq 60); do
    if docker exec "$name" python -c '
import glob, requests
sample = sorted(glob.glob("/outputs/smoke/export/int8/samples/*.png"))[0]
answer = requests.post("http://127.0.0.1:8080/predict", files={"file": open(sample, "rb")}, timeout=10)
answer.raise_for_status()
print(answer.text)' 2>/dev/null; then
        exit 0
    fi
    sleep 1
done
docker logs "$name"
exit 1
