#!/usr/bin/env bash
# transformers 5.23.0: fewer layers in a backbone's config make a config that cannot be read back.
#
# Expected: after `config.num_hidden_layers = 3` a config of four layers is one of three; it is written and read like
# any other.
# Seen: `stage_names` follows the number when the config is read again, `out_features` stays at the last of the old
# stages, and reading what was just written raises. A config that is built with three layers from the start is fine.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check transformers==5.23.0
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON' 2>/dev/null
import transformers
from transformers import BeitConfig

print("transformers", transformers.__version__)
config = BeitConfig(num_hidden_layers=4)
print("built with 4 layers:", config.stage_names, config.out_features)
config.num_hidden_layers = 3
written = config.to_dict()
print("set to 3 layers, written:", written["num_hidden_layers"], written["stage_names"], written["out_features"])
try:
    BeitConfig.from_dict(written)
except Exception as error:
    print("read again:", type(error).__name__, "|", str(error.__cause__ or error).splitlines()[0])
else:
    raise SystemExit("read again: no error; this finding no longer holds")
fresh = BeitConfig.from_dict(BeitConfig(num_hidden_layers=3).to_dict())
print("built with 3 layers, written and read again:", fresh.stage_names, fresh.out_features)
assert fresh.out_features == ["stage3"]
PYTHON
