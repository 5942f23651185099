#!/usr/bin/env python3
"""Makes a GGUF file with the metadata of another and no tensors. The input may be cut off anywhere after its metadata.

usage: vocab_only.py IN OUT
"""
import struct
import sys

# Sizes of the scalar value types by number; 8 is a string, 9 an array.
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9


def end_of_string(data, at):
    return at + 8 + struct.unpack_from("<Q", data, at)[0]


def end_of_value(data, at, kind):
    if kind == STRING:
        return end_of_string(data, at)
    if kind == ARRAY:
        element, count = struct.unpack_from("<IQ", data, at)
        at += 12
        if element in SIZES:
            return at + SIZES[element] * count
        for _ in range(count):
            at = end_of_value(data, at, element)
        return at
    return at + SIZES[kind]


def main():
    source, target = sys.argv[1:]
    with open(source, "rb") as file:
        data = file.read()
    magic, version, _, n_pairs = struct.unpack_from("<4sIQQ", data)
    if magic != b"GGUF" or version not in (2, 3):
        sys.exit(f"vocab_only.py: {source} is no GGUF file of version 2 or 3")
    at = 24
    for _ in range(n_pairs):
        at = end_of_string(data, at)
        at = end_of_value(data, at + 4, struct.unpack_from("<I", data, at)[0])
    if at > len(data):
        sys.exit(f"vocab_only.py: {source} ends inside its metadata")
    with open(target, "wb") as file:
        file.write(struct.pack("<4sIQQ", magic, version, 0, n_pairs))
        file.write(data[24:at])
        # Tensor data would begin at a multiple of 32; readers may check that the file reaches there.
        file.write(bytes(-at % 32))


main()
