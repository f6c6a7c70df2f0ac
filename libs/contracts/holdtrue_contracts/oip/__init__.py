"""Open Inference Protocol v2: messages (`inference_pb2`), tensors on the wire (`tensors`), callers (`client`)."""

SERVICE = "inference.GRPCInferenceService"
"""Full name of the gRPC service."""

SIGNATURE_PARAMETER = "holdtrue.signature"
"""Parameter of ModelConfig that holds the model's signature as JSON."""
