#!/usr/bin/env bash
# The main job on real data, from the command line. `make demo` installs what this needs and runs it.
set -euxo pipefail
cd "$(dirname "$0")/.."

# A residual CNN on MNIST: train it, prune it to 40 % of its MACs, check the laws, fine-tune it, save it. `prune` ends with
# a table: size, MACs, latency, and accuracy before, right after the cut and after fine-tuning.
secateur train examples/mnist_net.py:build --data mnist --epochs 1 --out run/dense
secateur prune examples/mnist_net.py:build --weights run/dense/model.safetensors --input 1x1x28x28 --data mnist \
    --target macs=0.4 --verify --finetune-epochs 1 --out run/small

# The saved run is a model like any other.
secateur verify run/small
secateur count run/small --input 1x1x28x28

# ImageNet weights, no data: what can be cut, and a verified cut.
secateur inspect examples/efficientnet_lite0.py:build --input 1x3x224x224
secateur prune examples/efficientnet_lite0.py:build --input 1x3x224x224 --target macs=0.7 --verify --out run/lite0
