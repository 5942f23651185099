// The models that the page offers, the first of which it opens with. See KnownModel in chat/model/suggested.js. training/publish.py writes
// the house model's sizes and hashes.

/** @type {import("./chat/model/suggested.js").KnownModel[]} */
export const MODELS = [
  {
    name: "Built-in mini model",
    description: "for drawings · included",
    model: "models/house.gguf",
    mmproj: "models/house-mmproj.gguf",
    bytes: 3813696,
    sha256: { model: "262c22ae15070a6172e9ed932f4946616d95c9b2b90a3b40318d0157ae92db3d", mmproj: "dce27d8f211bd213618f09d2d3e088c18eec94d9a9a278fd88f34cb216b894de" },
    about: "This small model comes with the page. It recognizes drawings of everyday objects, shapes and colors, and still mixes some up. It does not understand photographs.",
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
