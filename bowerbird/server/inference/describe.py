"""Metadata of the server and of scenes, in the protocol's terms."""

from __future__ import annotations

from importlib.metadata import version

from bowerbird.server.inference import wire
from bowerbird.server.inference.signature import Signature, TensorForm

NAME = "bowerbird"
_EXTENSIONS = ["binary_tensor_data"]


def server_metadata() -> wire.ServerMetadata:
    """Return who answers."""
    return wire.ServerMetadata(NAME, version(NAME), _EXTENSIONS)


def model_metadata(scene: str, signature: Signature) -> wire.ModelMetadata:
    """Return what a scene takes and gives."""
    return wire.ModelMetadata(
        scene,
        [str(signature.model.version)],
        f"{NAME}_{signature.model.manifest.kind}",
        [_tensor(each) for each in signature.inputs.values()],
        [_tensor(each) for each in signature.outputs.values()],
    )


def _tensor(form: TensorForm) -> wire.TensorMetadata:
    return wire.TensorMetadata(form.name, form.datatype, list(form.shape))
