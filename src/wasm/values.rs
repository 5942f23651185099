//! Values that cross the boundary: errors with their code, pictures, JSON.

use js_sys::{Object, Reflect, Uint8Array};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::error::{Error, Result};
use crate::image::from_rgba;
use crate::runtime::engine::ImageInput;

/// An error as JavaScript gets it: an `Error` whose `code` is that of the contract.
pub fn to_js(error: &Error) -> JsValue {
    let out = js_sys::Error::new(error.message());
    set(&out, "code", &error.code().into());
    out.into()
}

/// An error that JavaScript threw: it keeps its code where it has one.
pub fn from_js(value: &JsValue) -> Error {
    let text = |key: &str| Reflect::get(value, &key.into()).ok().and_then(|v| v.as_string());
    let message =
        text("message").or_else(|| value.as_string()).unwrap_or_else(|| "A part of the page failed without saying why.".into());
    match (text("code"), text("name").as_deref()) {
        (Some(code), _) => Error::from_code(&code, message),
        (None, Some("AbortError")) => Error::aborted(message),
        (None, Some("NotFoundError" | "NotReadableError")) => Error::storage(format!(
            "The file cannot be read: {message} It may have been moved or changed since it was chosen; choose it again."
        )),
        _ => Error::internal(message),
    }
}

/// Sets a property of an object made here, which cannot fail.
pub fn set(object: &JsValue, key: &str, value: &JsValue) {
    let _ = Reflect::set(object, &key.into(), value);
}

/// A value as JSON.
pub fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::internal(format!("A reply could not be written: {e}.")))
}

/// The bytes of an array.
fn bytes(array: &Uint8Array) -> Result<Vec<u8>> {
    let n = array.length() as usize;
    let mut out = Vec::new();
    out.try_reserve_exact(n)
        .map_err(|_| Error::out_of_memory(format!("There is not enough memory for a picture of {n} bytes.")))?;
    out.resize(n, 0);
    array.copy_to(&mut out);
    Ok(out)
}

/// A picture: the bytes of a file, or `{ width, height, data }` with RGBA pixels.
pub fn image(value: &JsValue) -> Result<ImageInput> {
    if let Some(array) = value.dyn_ref::<Uint8Array>() {
        return bytes(array).map(ImageInput::Encoded);
    }
    let number = |key: &str| {
        Reflect::get(value, &key.into()).ok().and_then(|v| v.as_f64()).filter(|v| *v >= 0.0 && *v <= f64::from(u32::MAX))
    };
    let data = Reflect::get(value, &"data".into()).ok().and_then(|v| v.dyn_into::<Uint8Array>().ok());
    match (number("width"), number("height"), data) {
        (Some(width), Some(height), Some(data)) => from_rgba(width as u32, height as u32, &bytes(&data)?).map(ImageInput::Pixels),
        _ => Err(Error::invalid_image("The picture is neither the bytes of a file nor pixels with a width and a height.")),
    }
}

/// Pictures.
pub fn images(values: &js_sys::Array) -> Result<Vec<ImageInput>> {
    values.iter().map(|v| image(&v)).collect()
}

/// Values and their shape as an object `{ data, shape }`.
pub fn tensor(data: &[f32], shape: &[usize]) -> Object {
    let out = Object::new();
    set(&out, "data", &js_sys::Float32Array::from(data));
    let shape: js_sys::Array = shape.iter().map(|n| JsValue::from(*n as u32)).collect();
    set(&out, "shape", &shape);
    out
}
