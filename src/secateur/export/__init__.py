"""What a pruned model is deployed as. A runtime is one file here; today there is a loader that needs only torch."""
