alias Quad = vec4<f32>;

fn quad(x: vec4<f32>) -> Quad {
    return x;
}
