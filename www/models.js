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
    sha256: { model: "616181e8aca6fc8a2a9d3bf1a07696977522fe7a233604aaff612935e21a3b7b", mmproj: "b6929f8320b7d9732f8ba071842e1973069af9e26591642ebfc71146b016043a" },
    about: "This small model came with the page. It knows drawings of everyday things, shapes and colors; it still takes one thing for another.",
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
