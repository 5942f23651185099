#!/usr/bin/env python3
"""The ONNX files that transformers.js would load of a SmolVLM in a published shape, with random weights: what speed is compared on.

  onnx_smolvlm.py {256m|500m} OUT        needs onnx, onnxruntime, numpy and sympy from PyPI

Three graphs, as the published folders have them: `embed_tokens`, `vision_encoder` (SigLIP, pixel shuffle, connector) and `decoder_model_merged`
(LLaMA with past keys and values), each in 8 bits as onnxruntime's own dynamic quantization makes it (MatMulInteger; files end in
`_quantized`, transformers.js's `dtype: "q8"`, which is what it takes by itself on the CPU). The decoder uses onnxruntime's fused
operators (GroupQueryAttention, SkipSimplifiedLayerNormalization) and computes logits of the last position alone: at least as fast as the published graph.
"""

import json
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto as Type, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

SHAPES = {
    "256m": dict(width=576, layers=30, heads=9, kv_heads=3, inner=1536),
    "500m": dict(width=960, layers=32, heads=15, kv_heads=5, inner=2560),
}
VOCABULARY, BASE, EPSILON, CONTEXT = 49280, 100000.0, 1e-5, 2048
IMAGE_TOKEN = 49190
TOWER = dict(width=768, layers=12, heads=12, inner=3072, image=512, patch=16, shuffle=4)


class Graph:
    """Nodes and random weights of one ONNX graph."""

    def __init__(self):
        self.nodes, self.weights, self.random = [], [], np.random.default_rng(1)

    def constant(self, name, value):
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, name, *shape):
        return self.constant(name, self.random.standard_normal(shape, np.float32) * np.float32(shape[0] ** -0.5))

    def op(self, kind, inputs, *outputs, domain="", **attributes):
        self.nodes.append(helper.make_node(kind, inputs, list(outputs), name=f"{outputs[0]}/{kind}", domain=domain, **attributes))
        return outputs[0]

    def linear(self, x, name, inner, outer, bias=False):
        y = self.op("MatMul", [x, self.weight(f"{name}.weight", inner, outer)], name if not bias else f"{name}.product")
        return self.op("Add", [y, self.constant(f"{name}.bias", np.zeros(outer, np.float32))], name) if bias else y

    def save(self, path, inputs, outputs):
        graph = helper.make_graph(self.nodes, path.stem, inputs, outputs, self.weights)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = 9
        onnx.save(model, path)


def tensor(name, kind, *shape):
    return helper.make_tensor_value_info(name, kind, list(shape))


def embed_tokens(path, shape):
    graph = Graph()
    graph.weight("table", VOCABULARY, shape["width"])
    graph.op("Gather", ["table", "input_ids"], "inputs_embeds")
    graph.save(path, [tensor("input_ids", Type.INT64, "batch_size", "tokens")], [tensor("inputs_embeds", Type.FLOAT, "batch_size", "tokens", shape["width"])])


def decoder(path, shape):
    width, heads, kv_heads, inner = shape["width"], shape["heads"], shape["kv_heads"], shape["inner"]
    head = width // heads
    graph = Graph()
    angles = np.arange(CONTEXT)[:, None] * BASE ** (-np.arange(0, head, 2) / head)[None]
    graph.constant("cosines", np.cos(angles).astype(np.float32))
    graph.constant("sines", np.sin(angles).astype(np.float32))
    for name, value in (("one", np.array(1)), ("axis", np.array([1])), ("last", np.array([-1])), ("end", np.array([2**31]))):
        graph.constant(name, value.astype(np.int64))
    graph.op("ReduceSum", ["attention_mask", "axis"], "seen", keepdims=0)
    graph.op("Sub", ["seen", "one"], "past_rows")
    graph.op("Cast", ["past_rows"], "past", to=Type.INT32)
    graph.op("Shape", ["attention_mask"], "mask_shape")
    graph.op("Gather", ["mask_shape", "one"], "total_rows", axis=0)
    graph.op("Cast", ["total_rows"], "total", to=Type.INT32)
    inputs = [
        tensor("inputs_embeds", Type.FLOAT, "batch_size", "tokens", width), tensor("attention_mask", Type.INT64, "batch_size", "total"),
        tensor("position_ids", Type.INT64, "batch_size", "tokens"),
    ]
    outputs = [tensor("logits", Type.FLOAT, "batch_size", 1, VOCABULARY)]
    # Positions follow from the mask here; the graph has to use the input that the library gives, or it would be missed.
    graph.op("Identity", ["position_ids"], "positions")
    outputs.append(tensor("positions", Type.INT64, "batch_size", "tokens"))
    ones = np.ones(width, np.float32)
    residual, added = "inputs_embeds", None

    def norm(name):
        nonlocal residual
        graph.constant(f"{name}.weight", ones)
        if added is None:
            return graph.op("SimplifiedLayerNormalization", [residual, f"{name}.weight"], name, axis=-1, epsilon=EPSILON, stash_type=1)
        graph.op("SkipSimplifiedLayerNormalization", [residual, added, f"{name}.weight"], name, "", "", f"{name}.sum", domain="com.microsoft", epsilon=EPSILON)
        residual = f"{name}.sum"
        return name

    for layer in range(shape["layers"]):
        x = norm(f"{layer}.norm1")
        q = graph.linear(x, f"{layer}.q", width, width)
        k, v = (graph.linear(x, f"{layer}.{name}", width, head * kv_heads) for name in "kv")
        past, present = ([f"{when}.{layer}.{name}" for name in ("key", "value")] for when in ("past_key_values", "present"))
        inputs += [tensor(name, Type.FLOAT, "batch_size", kv_heads, "past", head) for name in past]
        outputs += [tensor(name, Type.FLOAT, "batch_size", kv_heads, "total", head) for name in present]
        graph.op("GroupQueryAttention", [q, k, v, *past, "past", "total", "cosines", "sines"], f"{layer}.attention", *present, domain="com.microsoft",
                 num_heads=heads, kv_num_heads=kv_heads, do_rotary=1, rotary_interleaved=0, scale=head**-0.5)
        added = graph.linear(f"{layer}.attention", f"{layer}.o", width, width)
        x = norm(f"{layer}.norm2")
        gate, up = (graph.linear(x, f"{layer}.{name}", width, inner) for name in ("gate", "up"))
        graph.op("Sigmoid", [gate], f"{layer}.sigmoid")
        graph.op("Mul", [gate, f"{layer}.sigmoid"], f"{layer}.silu")
        graph.op("Mul", [f"{layer}.silu", up], f"{layer}.gated")
        added = graph.linear(f"{layer}.gated", f"{layer}.down", inner, width)
    norm("norm")
    graph.op("Slice", ["norm", "last", "end", "axis"], "last_row")
    graph.op("MatMul", ["last_row", graph.weight("head.weight", width, VOCABULARY)], "logits")
    graph.save(path, inputs, outputs)


def vision_encoder(path, shape):
    width, heads, inner, patch, shuffle = (TOWER[name] for name in ("width", "heads", "inner", "patch", "shuffle"))
    head, side = width // heads, TOWER["image"] // patch
    patches = side * side
    graph = Graph()
    for name, value in (
        ("tiles_shape", [-1, 3, TOWER["image"], TOWER["image"]]), ("rows_shape", [0, width, -1]), ("heads_shape", [0, patches, heads, head]),
        ("joined_shape", [0, patches, width]), ("square", [0, side, side // shuffle, width * shuffle]),
        ("square2", [0, side // shuffle, side // shuffle, width * shuffle * shuffle]), ("out_shape", [0, patches // shuffle**2, width * shuffle**2]),
    ):
        graph.constant(name, np.array(value, np.int64))
    graph.constant("scale", np.array(head**-0.5, np.float32))
    graph.op("Reshape", ["pixel_values", "tiles_shape"], "tiles")
    # The mask says which pixels are padding; these pictures have none. It is used for the same reason as the positions above.
    graph.op("Identity", ["pixel_attention_mask"], "mask")
    kernel = graph.random.standard_normal((width, 3, patch, patch), np.float32) * np.float32(0.03)
    graph.op("Conv", ["tiles", graph.constant("patches.weight", kernel), graph.constant("patches.bias", np.zeros(width, np.float32))], "cut",
             kernel_shape=[patch, patch], strides=[patch, patch])
    graph.op("Reshape", ["cut", "rows_shape"], "columns")
    graph.op("Transpose", ["columns"], "rows", perm=[0, 2, 1])
    x = graph.op("Add", ["rows", graph.weight("places", patches, width)], "placed")

    def norm(x, name):
        graph.constant(f"{name}.weight", np.ones(width, np.float32))
        graph.constant(f"{name}.bias", np.zeros(width, np.float32))
        return graph.op("LayerNormalization", [x, f"{name}.weight", f"{name}.bias"], name, axis=-1, epsilon=1e-6)

    for layer in range(TOWER["layers"]):
        normed = norm(x, f"{layer}.norm1")
        parts = {}
        for name in "qkv":
            y = graph.linear(normed, f"{layer}.{name}", width, width, bias=True)
            graph.op("Reshape", [y, "heads_shape"], f"{layer}.{name}.heads")
            parts[name] = graph.op("Transpose", [f"{layer}.{name}.heads"], f"{layer}.{name}.by_head", perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3])
        graph.op("Mul", [parts["q"], "scale"], f"{layer}.scaled")
        graph.op("MatMul", [f"{layer}.scaled", parts["k"]], f"{layer}.scores")
        graph.op("Softmax", [f"{layer}.scores"], f"{layer}.shares", axis=-1)
        graph.op("MatMul", [f"{layer}.shares", parts["v"]], f"{layer}.mixed")
        graph.op("Transpose", [f"{layer}.mixed"], f"{layer}.by_row", perm=[0, 2, 1, 3])
        graph.op("Reshape", [f"{layer}.by_row", "joined_shape"], f"{layer}.joined")
        y = graph.linear(f"{layer}.joined", f"{layer}.o", width, width, bias=True)
        x = graph.op("Add", [x, y], f"{layer}.seen")
        y = graph.linear(norm(x, f"{layer}.norm2"), f"{layer}.up", width, inner, bias=True)
        graph.op("Gelu", [y], f"{layer}.gelu", approximate="tanh")
        y = graph.linear(f"{layer}.gelu", f"{layer}.down", inner, width, bias=True)
        x = graph.op("Add", [x, y], f"{layer}.out")
    x = norm(x, "post")
    graph.op("Reshape", [x, "square"], "shuffled1")
    graph.op("Transpose", ["shuffled1"], "shuffled2", perm=[0, 2, 1, 3])
    graph.op("Reshape", ["shuffled2", "square2"], "shuffled3")
    graph.op("Transpose", ["shuffled3"], "shuffled4", perm=[0, 2, 1, 3])
    graph.op("Reshape", ["shuffled4", "out_shape"], "shuffled")
    graph.linear("shuffled", "image_features", width * shuffle**2, shape["width"])
    size = TOWER["image"]
    graph.save(
        path,
        [tensor("pixel_values", Type.FLOAT, "batch_size", "tiles", 3, size, size), tensor("pixel_attention_mask", Type.BOOL, "batch_size", "tiles", size, size)],
        [tensor("image_features", Type.FLOAT, "tiles", patches // shuffle**2, shape["width"]), tensor("mask", Type.BOOL, "batch_size", "tiles", size, size)],
    )


def main(name, out):
    shape = SHAPES[name]
    folder = pathlib.Path(out)
    (folder / "onnx").mkdir(parents=True, exist_ok=True)
    for file, make in (("embed_tokens", embed_tokens), ("vision_encoder", vision_encoder), ("decoder_model_merged", decoder)):
        floats, quantized = (folder / "onnx" / f"{file}{end}.onnx" for end in ("", "_quantized"))
        make(floats, shape)
        quantize_dynamic(floats, quantized, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gather"], extra_options=dict(EnableSubgraph=True, DefaultTensorType=Type.FLOAT))
        floats.unlink()
        print(quantized, round(quantized.stat().st_size / 1e6), "MB")
    head = shape["width"] // shape["heads"]
    text = dict(
        model_type="llama", hidden_size=shape["width"], intermediate_size=shape["inner"], num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"], head_dim=head, vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, rms_norm_eps=EPSILON, rope_theta=BASE,
    )
    vision = dict(model_type="idefics3", hidden_size=TOWER["width"], image_size=TOWER["image"], patch_size=TOWER["patch"])
    config = dict(
        architectures=["Idefics3ForConditionalGeneration"], model_type="idefics3", image_token_id=IMAGE_TOKEN, scale_factor=TOWER["shuffle"],
        bos_token_id=1, eos_token_id=2, pad_token_id=2, vocab_size=VOCABULARY, tie_word_embeddings=False, text_config=text, vision_config=vision,
    )
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    (folder / "generation_config.json").write_text(json.dumps(dict(bos_token_id=1, eos_token_id=2, pad_token_id=2)))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in SHAPES:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2])
