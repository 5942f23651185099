// F32. One plane: the elements (1024 bits per block).
fn M_weights(block: u32) -> array<vec4<f32>, 8> {
    let i = 8u * block;
    return array<vec4<f32>, 8>(
        bitcast<vec4<f32>>(M_w[i]), bitcast<vec4<f32>>(M_w[i + 1u]), bitcast<vec4<f32>>(M_w[i + 2u]), bitcast<vec4<f32>>(M_w[i + 3u]),
        bitcast<vec4<f32>>(M_w[i + 4u]), bitcast<vec4<f32>>(M_w[i + 5u]), bitcast<vec4<f32>>(M_w[i + 6u]), bitcast<vec4<f32>>(M_w[i + 7u]));
}
