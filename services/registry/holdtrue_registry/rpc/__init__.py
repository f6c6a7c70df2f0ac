"""The registry over gRPC: translate, call, translate."""
