//! A ranged source over a JavaScript object `{ name, size, read(offset, length) → Promise<Uint8Array>, refuse?() }`.

use js_sys::{Function, Promise, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::error::{Error, Result};
use crate::gguf::source::past_the_end;
use crate::gguf::{LocalFuture, RangedSource};
use crate::wasm::values::from_js;

/// The most that is asked for at once, so that no copy on the JavaScript side is larger.
const MAX_READ: usize = 4 << 20;

pub struct JsSource {
    name: String,
    size: Option<u64>,
    object: JsValue,
    read: Function,
}

impl JsSource {
    /// Wraps the object.
    ///
    /// # Errors
    /// `invalid_request` where it is not of that form.
    pub fn new(object: JsValue) -> Result<Self> {
        let get = |key: &str| Reflect::get(&object, &key.into()).unwrap_or(JsValue::UNDEFINED);
        let read =
            get("read").dyn_into::<Function>().map_err(|_| Error::invalid_request("A model source has no read function."))?;
        let name = get("name").as_string().unwrap_or_else(|| "model".into());
        let size = get("size").as_f64().filter(|s| s.is_finite() && *s >= 0.0).map(|s| s as u64);
        Ok(Self { name, size, object, read })
    }
}

impl RangedSource for JsSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> Option<u64> {
        self.size
    }

    fn refuse(&self) {
        if let Ok(refuse) = Reflect::get(&self.object, &"refuse".into()).and_then(|f| f.dyn_into::<Function>()) {
            // What it throws changes nothing about the failure that is being told.
            let _ = refuse.call0(&self.object);
        }
    }

    fn read<'a>(&'a self, offset: u64, out: &'a mut [u8]) -> LocalFuture<'a, Result<()>> {
        Box::pin(async move {
            if let Some(size) = self.size
                && offset.saturating_add(out.len() as u64) > size
            {
                return Err(past_the_end(&self.name, offset, out.len(), size));
            }
            let mut at = offset;
            for piece in out.chunks_mut(MAX_READ) {
                let promise =
                    self.read.call2(&self.object, &(at as f64).into(), &(piece.len() as f64).into()).map_err(|e| from_js(&e))?;
                let value = JsFuture::from(Promise::resolve(&promise)).await.map_err(|e| from_js(&e))?;
                let bytes = value
                    .dyn_into::<Uint8Array>()
                    .map_err(|_| Error::internal("A model source gave something that is not bytes."))?;
                if bytes.length() as usize != piece.len() {
                    return Err(past_the_end(&self.name, at, piece.len(), at + u64::from(bytes.length())));
                }
                bytes.copy_to(piece);
                at += piece.len() as u64;
            }
            Ok(())
        })
    }
}
