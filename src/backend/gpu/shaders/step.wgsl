// What changes from token to token.
struct Step {
    // The position of the first row.
    position: u32,
    // Evenly in [0, 1): what a token is drawn by.
    unit: f32,
}
