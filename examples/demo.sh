#!/usr/bin/env bash
# Prune a CNN on real data from the command line. `make demo` installs the requirements and runs this script.
set -euxo pipefail
cd "$(dirname "$0")/.."

# A residual CNN on MNIST: train it, prune it to 40 % of its MACs, check the laws, fine-tune it, save it. `prune` ends with
# a table: size, MACs, latency, and accuracy before, right after the cut and after fine-tuning.
secateur train examples/mnist_net.py:build --data mnist --epochs 1 --out run/dense
secateur prune examples/mnist_net.py:build --weights run/dense/model.safetensors --input 1x1x28x28 --data mnist \
    --target macs=0.4 --verify --finetune-epochs 1 --out run/small

# The folder of a run can be used as a model.
secateur verify run/small
secateur count run/small --input 1x1x28x28

# ImageNet weights without data: list what can be cut, then cut and verify.
secateur inspect examples/efficientnet_lite0.py:build --input 1x3x224x224
secateur prune examples/efficientnet_lite0.py:build --input 1x3x224x224 --target macs=0.7 --verify --out run/lite0
