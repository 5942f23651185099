#!/usr/bin/env python3
"""Writes the layers' matrices of a GGUF model anew in Q4_0; the embedding and output tables and all vectors stay as they are.

usage: requantize.py IN OUT      needs the packages gguf and numpy
"""
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType, dequantize, quantize

KEPT = {"token_embd.weight", "output.weight"}


def copy_metadata(reader, writer):
    for name, field in reader.fields.items():
        # These the writer makes itself.
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=element)
    writer.add_file_type(LlamaFileType.MOSTLY_Q4_0)


def main():
    source, target = sys.argv[1:]
    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    copy_metadata(reader, writer)
    for tensor in reader.tensors:
        kind, data = tensor.tensor_type, tensor.data
        if kind == GGMLQuantizationType.F32:
            writer.add_tensor(tensor.name, data)
            continue
        if tensor.name not in KEPT and kind != GGMLQuantizationType.Q4_0:
            # GGUF names the innermost dimension first, numpy last.
            values = dequantize(data, kind).reshape([int(n) for n in reversed(tensor.shape)])
            kind = GGMLQuantizationType.Q4_0
            data = quantize(values.astype(np.float32), kind)
        writer.add_tensor(tensor.name, data, raw_shape=data.shape, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main()
