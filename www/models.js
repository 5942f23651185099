// The models that the page offers, the first of which it opens with. See KnownModel in ui/known-models.js. training/publish.py writes
// the house model's sizes and hashes.

/** @type {import("./ui/known-models.js").KnownModel[]} */
export const MODELS = [
  {
    name: "House model",
    description: "for drawings, comes with this page",
    model: "models/house.gguf",
    mmproj: "models/house-mmproj.gguf",
    bytes: 3813696,
    sha256: { model: "8626e33c0c2a2b90f6aaa79810b25aa24e575e77320675c522fa4192eabe8e34", mmproj: "2d94051749b41214f173202caac1145200b334e9a8e7d12f3c7d0e570cc98d41" },
    about: "This small model came with the page. It knows drawings of everyday things, shapes and colors, and is often wrong.",
    temperature: 0,
    questions: ["What is in this picture?", "How many objects are there?", "Is there a dog?"],
    examples: [
      { picture: "examples/pets.png", alt: "A drawing of a dog, a cat and a red balloon", question: "Is there a dog?" },
      { picture: "examples/fruit.png", alt: "A drawing of three apples and a banana on green", question: "Is there a banana?" },
      { picture: "examples/travel.png", alt: "A drawing of an airplane, the sun and a yellow bus", question: "What color is the bus?" },
    ],
  },
  {
    name: "LLaVA 1.5, 7B",
    description: "for photographs",
    model: "hf:mys/ggml_llava-v1.5-7b/ggml-model-q4_k.gguf",
    mmproj: "hf:mys/ggml_llava-v1.5-7b/mmproj-model-f16.gguf",
    bytes: 4_700_000_000,
  },
];
