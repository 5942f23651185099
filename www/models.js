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
    sha256: { model: "82bb85e502b43a9811d4d26bc6ba5c77b0074dbf1f019bdce9ddd8b8128f3119", mmproj: "e383a6f4ecb4ea0faf3bacd2d6ccd5ca56900d820e02878a76dc2c378bff06ce" },
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
