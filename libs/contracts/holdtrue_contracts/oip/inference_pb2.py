"""The messages of protos/oip/inference.proto; `inference_pb2.pyi`, generated, holds their types.

They live in a descriptor pool of their own: in the default pool they would clash with those that a foreign client of the same protocol
registers under the same names in the same process.
"""

from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass

_POOL = DescriptorPool()
for _file in FileDescriptorSet.FromString((Path(__file__).parent / "inference.binpb").read_bytes()).file:
    _POOL.Add(_file)

DESCRIPTOR = _POOL.FindFileByName("oip/inference.proto")
globals().update({name: GetMessageClass(message) for name, message in DESCRIPTOR.message_types_by_name.items()})
for _name, _enum in DESCRIPTOR.enum_types_by_name.items():
    globals().update({_name: EnumTypeWrapper(_enum)} | {value.name: value.number for value in _enum.values})
