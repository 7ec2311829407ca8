"""Triton Inference Server: a model repository from a bundle.

What Triton reads was taken from its own sources (triton-inference-server, July and August 2026): the schema
`protobuf/model_config.proto` in `common`, `docs/user_guide/model_configuration.md`, `model_repository.md` and
`batcher.md` in `server`, warm-up and checks in `core`, shapes and accelerators in `onnxruntime_backend`.
"""

from edgekit_triton.exporting import TritonExporter

exporter = TritonExporter()
"""What the entry point `edgekit.exporters: triton` names."""

__all__ = ["TritonExporter", "exporter"]
