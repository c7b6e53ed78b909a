#!/usr/bin/env bash
# Makes the models that ship, from nothing: about 40 minutes on two cores. Needs a virtual environment of its own:
#
#   python3 -m venv .models-venv
#   .models-venv/bin/pip install torch==2.13.0
#   .models-venv/bin/pip install transformers==5.23.0 onnx==1.23.2 onnx-ir==1.1.0 onnxscript==0.7.2 onnxruntime==1.32.0 onnxruntime-genai==0.18.0
#   packaging/models/build.sh .models-venv/bin/python WORK_FOLDER
set -euo pipefail
python=$1
work=$2
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
agent="$root/.venv/bin/ringfence-agent"
export HF_HUB_OFFLINE=1 ORT_DISABLE_TELEMETRY=1

"$python" "$here/train_guide.py" "$work/guide" --minutes 30
"$python" -m onnxruntime_genai.models.builder -i "$work/guide" -o "$work/guide-int4" -p int4 -e cpu -c "$work/cache"
"$python" "$here/train_embed.py" "$work/guide" "$work/guide-embed" --minutes 6

rm -rf "$here/repository"
"$agent" models add "$work/guide-int4" --name guide --temperature 0 --trust --licence Apache-2.0 --models "$here/repository" \
  --about "The demonstration model: knows 250 answers about Ringfence, and nothing else."
"$agent" models add "$work/guide-embed" --name guide-embed --task embed --max-tokens 128 --trust --licence Apache-2.0 --models "$here/repository" \
  --about "The demonstration's sentence encoder, trained on the same questions."
"$root/.venv/bin/python" "$here/take_exam.py" "$here/repository"
