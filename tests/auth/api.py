# SPDX-License-Identifier: MIT
"""The API as a running server describes it by reflection, and calls of any of its methods with any message: whatever
a later API adds is met here without a line of ours."""

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor

REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
UNAUTHORIZED = "Request unauthorized."


def fields_of(data):
    """Length-delimited fields of a message, as (number, bytes): enough for reflection's own, which come first."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = varint()
        if tag & 7 == 0:
            varint()
            continue
        size = varint()
        yield tag >> 3, data[at:at + size]
        at += size


class Method:
    def __init__(self, api, service, descriptor):
        self.service, self.name = service, descriptor.name
        self.path = f"/{service}/{descriptor.name}"
        self.input, self.output = descriptor.input_type, descriptor.output_type
        self.streams = (descriptor.client_streaming, descriptor.server_streaming)
        self.request_class = message_factory.GetMessageClass(self.input)
        self.response_class = message_factory.GetMessageClass(self.output)
        kind = {(False, False): api.channel.unary_unary, (False, True): api.channel.unary_stream,
                (True, True): api.channel.stream_stream}[self.streams]
        self.call = kind(self.path, request_serializer=lambda m: m.SerializeToString(),
                         response_deserializer=self.response_class.FromString)

    def begin(self, request, metadata, timeout=60):
        if self.streams == (False, False):
            return self.call.future(request, metadata=metadata, timeout=timeout)
        return self.call(iter([request]) if self.streams[0] else request, metadata=metadata, timeout=timeout)

    def end(self, begun):
        """(code, text, details, response)"""
        try:
            response = begun.result() if self.streams == (False, False) else next(begun)
            if self.streams != (False, False):
                begun.cancel()
            return grpc.StatusCode.OK, "", b"", response
        except grpc.RpcError as error:
            details = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
            return error.code(), error.details(), details[0] if details else b"", None


class Api:
    def __init__(self, address, metadata):
        self.channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(self.channel).result(timeout=30)
        self.pool = descriptor_pool.DescriptorPool()
        self.known = set()
        self.methods = {}
        listed = self.ask(b"\x3a\x00", metadata)  # list_services
        for number, each in fields_of(listed[6]):
            if number == 1:
                self.add_service(dict(fields_of(each))[1].decode(), metadata)

    def ask(self, request, metadata):
        stream = self.channel.stream_stream(REFLECTION, request_serializer=bytes, response_deserializer=bytes)
        return dict(fields_of(next(stream(iter([request]), metadata=metadata, timeout=30))))

    def add_service(self, service, metadata):
        name = service.encode()
        answer = self.ask(b"\x22" + bytes([len(name)]) + name, metadata)  # file_containing_symbol
        files = [descriptor_pb2.FileDescriptorProto.FromString(data) for number, data in fields_of(answer[4])]
        waiting = {each.name: each for each in files if each.name not in self.known}
        while waiting:
            for each in list(waiting.values()):
                if all(other in self.known for other in each.dependency):
                    self.pool.AddSerializedFile(each.SerializeToString())
                    self.known.add(each.name)
                    del waiting[each.name]
        for descriptor in self.pool.FindServiceByName(service).methods:
            method = Method(self, service, descriptor)
            self.methods[method.path] = method

    def method(self, name):
        return next(m for m in self.methods.values() if m.name == name and m.service.startswith("temporal."))


def is_denied(answer):
    """Whether the authorizer said no; what the server answers of itself is none of its verdicts."""
    code, text = answer[0], answer[1]
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL):
        raise AssertionError(f"{code} {text}")
    return code == grpc.StatusCode.PERMISSION_DENIED and text == UNAUTHORIZED


def paths_to(message, wanted, path=(), seen=()):
    """Paths of field descriptors to every field that `wanted`, each message type once on a path."""
    for field in message.fields:
        here = path + (field,)
        if wanted(field, here):
            yield here
        if field.type == FieldDescriptor.TYPE_MESSAGE and field.message_type not in seen:
            yield from paths_to(field.message_type, wanted, here, seen + (field.message_type,))


def put(message, path, value):
    """Sets the field at the end of a path, with one element in each list and map on the way."""
    for field in path[:-1]:
        if field.message_type.GetOptions().map_entry:
            message = getattr(message, field.name)["key"]
        elif message is not None and field.is_repeated:
            message = getattr(message, field.name).add()
        elif field.containing_type.GetOptions().map_entry:
            pass  # the entry's value, which is where we are
        else:
            message = getattr(message, field.name)
            message.SetInParent()
    last = path[-1]
    if last.is_repeated:
        getattr(message, last.name).append(value)
    else:
        setattr(message, last.name, value)
