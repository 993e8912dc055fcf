"""The Open Inference Protocol over gRPC, as `inference.GRPCInferenceService`."""

from raymlops.serve.protocols.open_inference.grpc.server import GrpcServer

__all__ = ["GrpcServer"]
