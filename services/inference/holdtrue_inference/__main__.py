"""Be the inference service."""

from holdtrue_core.lifecycle import run

from holdtrue_inference.app import INFERENCE

if __name__ == "__main__":
    run(INFERENCE)
