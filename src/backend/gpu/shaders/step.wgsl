// What changes from token to token.
struct Step {
    // The position of the first row.
    position: u32,
    // What a token is drawn by: evenly in [0, 1), in units of 2^-32.
    unit: u32,
}
